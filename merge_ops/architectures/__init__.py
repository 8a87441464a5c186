"""What a model's configuration says of its checkpoint: tensor names, shapes, ties and layers. Reads no weights."""
