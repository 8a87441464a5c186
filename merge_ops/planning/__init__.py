"""From a recipe and open sources to a plan with one task per output tensor. Reads no weights."""
