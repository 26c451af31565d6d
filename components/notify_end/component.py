"""The stage notify_end, an exit handler."""

from kfp import dsl

from visionyard.components._images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def notify_end(
    outcome: dsl.Output[dsl.Artifact],
    run_name: str = "",
    expected_stages: list = [],
    when: str = "always",
    events_uri: str = "",
    prices_uri: str = "",
) -> None:
    """Tell people how the run ended and what it cost, from its events and exit reports; never fails the run.

    Addresses and credentials come from the environment, see docs/notifications.md.

    Args:
        run_name: What people call the run; empty takes its id.
        expected_stages: Stages without which the run is not done, so that one that never started is named; none
            that KFP's cache may answer for.
        when: always, or failure to keep quiet about a run that is done.
        events_uri: The s3:// prefix or file of the run events; empty takes VISIONYARD_EVENTS.
        prices_uri: The price table; empty takes VISIONYARD_PRICES, and without one no cost is worked out.

    Returns:
        outcome: How the run ended, as JSON: what the webhook is sent.
    """
    from visionyard import events

    # Inside the stage: what an import costs or breaks belongs to it.
    with events.stage("notify_end"):
        from pathlib import Path

        from visionyard.cluster.run_end import tell_end

        end = tell_end(
            events_uri=events_uri,
            title=run_name,
            expected_stages=[str(name) for name in expected_stages],
            when=when,
            prices_uri=prices_uri,
            artifact_uri=outcome.uri,
        )
        end.write(Path(outcome.path))
        cost = {"cost": f"{end.outcome.cost.total:.4f} {end.outcome.cost.currency}"} if end.outcome.cost else {}
        events.figures(status=end.outcome.status, told=end.told_count, **cost)
