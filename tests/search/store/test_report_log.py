from orchestrator.search.store.report_log import ReportLog


def test_what_was_told_is_known_to_who_comes_after(tmp_path):
    told = ReportLog(tmp_path / "told.txt")
    assert "trial 1" not in told
    for name in ("fold 1 0", "trial 1"):
        told.add(name)
    after = ReportLog(tmp_path / "told.txt")
    assert "trial 1" in after and "fold 1 0" in after and "trial 11" not in after


def test_half_a_name_is_no_name(tmp_path):
    (tmp_path / "told.txt").write_text("trial 1\ntri")
    told = ReportLog(tmp_path / "told.txt")
    assert "trial 1" in told and "trial" not in told
