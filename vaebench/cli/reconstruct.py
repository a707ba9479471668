"""``vaebench reconstruct``."""

from vaebench.cli import options as opt


def reconstruct(
    tokenizer: opt.Tokenizer,
    data: opt.Data = "avatars",
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    workers: opt.Workers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Reconstruct the test split: PSNR, SSIM and rFID with intervals; with --output-dir also picture grids.

    Example: vaebench reconstruct runs/send-vae --data avatars --output-dir runs/send-vae-reconstructions
    """
    from vaebench import api

    data_options, reference, settings = opt.sections(
        {"seed": seed} | opt.settings(config, override), "data", "reference"
    )
    if dry_run:
        from vaebench.cli.preview import stage_preview

        stage_preview("reconstruct", settings)
        return
    opt.show_scores(api.reconstruct(
        tokenizer, data, output_dir, data_options=data_options, reference=reference, settings=settings,
        context=opt.context(device, workers),
    ))  # fmt: skip
    if output_dir is not None:
        opt.say(str(output_dir))
