"""What loads without a network: a process of its own, with `HF_HUB_OFFLINE` set from outside.

transformers is imported first here, croco3d second.
"""

import os
import sys


def main() -> None:
    from transformers import AutoConfig, AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    import croco3d

    assert "stereo-reconstruction" in PIPELINE_REGISTRY.get_supported_tasks()

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert type(AutoConfig.from_pretrained("org/room")).__name__ == "Dust3rConfig"
    for loader in (AutoModel, croco3d.AutoCroco3D):
        assert type(loader.from_pretrained("org/room")).__name__ == "Dust3rForStereo"
    assert type(croco3d.AutoCroco3D.from_pretrained("org/adapter")).__name__ == "PeftModel"
    try:
        croco3d.AutoCroco3D.from_pretrained("org/elsewhere")
    except OSError as error:
        sys.stdout.write(str(error))


if __name__ == "__main__":
    main()
