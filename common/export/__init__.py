"""Model export: `python -m common.export --help`. Runs in the TensorFlow image, for a user's ONNX file in ONNX Runtime's."""
