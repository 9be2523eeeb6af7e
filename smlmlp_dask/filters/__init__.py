"""The local Gaussian mean: kernels, parameters, and the engines that apply it."""
