"""Real-time inference and serving for AutoGLM-Phone-9B class multimodal phone agents."""

__version__ = "0.1.0"
