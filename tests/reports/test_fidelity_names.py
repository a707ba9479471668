from reports.names import GENERATION, RECONSTRUCTION, metric_name, metric_order


def test_companion_networks_are_named_beside_the_distance() -> None:
    entry = metric_name("gfid_vs_reconstructions_dinov2")
    assert entry.label == "gFD to own reconstructions, dinov2"
    assert (entry.group, entry.leading) == (GENERATION, False)
    assert metric_name("gfid_dinov2").label == "gFD to real images, dinov2"
    assert metric_name("rfid_dinov2").group == RECONSTRUCTION
    assert metric_name("gfid_vs_reconstructions").label == "gFID to own reconstructions"


def test_their_order_is_that_of_the_distance() -> None:
    names = ["kid", "gfid_dinov2", "stranger", "rfid_dinov2", "gfid", "sfid"]
    assert sorted(names, key=metric_order) == ["rfid_dinov2", "gfid", "gfid_dinov2", "sfid", "kid", "stranger"]
    assert metric_name("inception_score").group == GENERATION
