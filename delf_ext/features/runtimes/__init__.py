"""Run networks outside eager TensorFlow: frozen graphs, OpenVINO, ONNX Runtime, 8-bit integers."""
