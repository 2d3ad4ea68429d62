"""An image that is lost after the run began: the refusal says what to do."""

import pytest
from tiny_records import make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.data.images import ImageError
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import DatasetSource
from hkdcli.errors import BadRow, DataError


class GoneImages:
    def load(self, name):
        raise ImageError(BadRow("image.missing", "", name, "no such file"))


def test_a_lost_image_ends_the_run_with_a_way_out():
    source = DatasetSource(Dataset("tiny", (make_hallucination("h"),), GoneImages()), None)
    with pytest.raises(DataError, match="cannot be read any more") as error:
        source.load([Draw(0, 0)])
    assert "--resume" in error.value.hint and error.value.rows[0].id == "h"
