"""Operations on the picture."""
