"""Ray Train worker groups through which fits pass one after another."""
