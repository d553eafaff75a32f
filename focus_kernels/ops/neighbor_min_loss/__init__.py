from .op import neighbor_min_loss

__all__ = ["neighbor_min_loss"]
