"""Writes a merged model as an ordinary checkpoint folder."""
