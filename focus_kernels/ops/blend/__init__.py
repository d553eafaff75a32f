from .op import blend

__all__ = ["blend"]
