def test_the_package_can_be_run_as_a_program(python):
    ended = python("-W", "error", "-m", "aiopype", "--help")

    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "Run continuous data pipelines on Kafka." in ended.stdout
