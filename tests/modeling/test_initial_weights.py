"""New models start where training can begin at once."""

import pytest
import torch

from croco3d.modeling.decoders import PairDecoderConfig
from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo
from croco3d.modeling.encoders import CrocoEncoderConfig
from croco3d.modeling.heads import DptHeadConfig, LinearHeadConfig

SIZE = (64, 96)


def new_model(head: LinearHeadConfig | DptHeadConfig) -> Dust3rForStereo:
    torch.manual_seed(0)
    encoder = CrocoEncoderConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=list(SIZE),
        absolute_positions="learned",
    )
    decoder = PairDecoderConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=2)
    config = Dust3rConfig(
        image_size=list(SIZE), encoder_config=encoder, decoder_config=decoder, head_config=head
    )
    return Dust3rForStereo(config).eval()


@pytest.mark.parametrize("depth_mode", ["exp", "linear", "square"])
@pytest.mark.parametrize("head", [LinearHeadConfig, DptHeadConfig])
def test_first_points_lie_in_front_of_the_camera(head, depth_mode):
    options = {"fusion_channels": 32, "level_channels": [16, 16, 16, 16]}
    extra = options if head is DptHeadConfig else {}
    model = new_model(head(depth_mode=depth_mode, **extra))
    with torch.no_grad():
        outputs = model(torch.rand(2, 3, *SIZE) * 2 - 1, torch.rand(2, 3, *SIZE) * 2 - 1)
    for points in (outputs.pointmap1, outputs.pointmap2):
        assert points.shape == (2, *SIZE, 3)
        away = points - torch.tensor([0.0, 0.0, 1.0])
        assert float(away.norm(dim=-1).mean()) < 0.3
        assert float(points[..., 2].min()) > 0


def test_tokens_stay_apart_through_an_untrained_model():
    model = new_model(LinearHeadConfig())
    seen = []
    model.decoder.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(torch.zeros(1, 3, *SIZE), torch.zeros(1, 3, *SIZE))
    for tokens in seen:
        own = tokens - tokens.mean(dim=1, keepdim=True)
        assert float(own.square().mean()) > 0.5 * float(tokens.square().mean())
