"""Pictures as inline SVG and PNG; colours are CSS variables of the page, so that they follow light and dark mode."""
