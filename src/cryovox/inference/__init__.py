"""From a network and a tomogram to scores, in bounded memory."""
