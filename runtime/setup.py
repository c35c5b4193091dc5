"""What pyproject.toml cannot say: that an editable install, too, comes with the data files."""

from setuptools import Distribution, setup


class DistributionWithData(Distribution):
    """setuptools' editable wheels ask for ``has_data``, which it never defines, and so leave data files out."""

    has_data = Distribution.has_data_files


setup(distclass=DistributionWithData)
