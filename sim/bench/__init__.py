"""`tango-jit bench`: what this computer does with the product, figure by figure, beside targets and peers."""
