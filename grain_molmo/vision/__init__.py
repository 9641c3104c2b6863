"""From pictures to crops, patches and pooling indices."""
