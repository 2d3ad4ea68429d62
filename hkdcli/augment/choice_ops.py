"""Operations on the choices."""
