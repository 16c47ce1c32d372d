"""The parts of MTCNN: weights, the three networks, the pyramid, patches and boxes."""
