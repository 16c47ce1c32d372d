"""The parts of MTCNN: weights, networks, image pyramid, patches, boxes, and accelerator program."""
