"""The step loop and what surrounds it; the only package that knows devices, ranks and Fabric."""
