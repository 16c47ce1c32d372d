"""The parts of MTCNN: weights, networks, pyramid, patches, boxes, and an accelerator program."""
