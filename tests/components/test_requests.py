"""Images asked for at one step are due ``LAG`` steps later, for whoever resumes too."""

import torch

from evenseg.components.requests import ANY, LAG, Requests
from evenseg.types import Step


def step(index, slot=0):
    return Step(index, 1000, torch.Generator(), labeled_slot=0, unlabeled_slot=slot)


def test_what_is_asked_for_comes_lag_steps_later():
    requests = Requests("unlabeled", 3)
    for index in range(2 * LAG + 5):
        expected = [ANY] * 3 if index < LAG else [10 * (index - LAG) + slot for slot in range(3)]
        assert requests.images_at(index) == expected
        classes = [ANY] * 3 if index < LAG else [index - LAG, 1, 2]
        assert requests.wanted_at(step(index), 3).tolist() == classes
        assert requests.wanted_at(step(index, slot=1), 2).tolist() == classes[1:]
        requests.make(step(index), torch.tensor([index, 1, 2]), 10 * index + torch.arange(3))


def test_pending_requests_survive_in_the_state():
    requests, resumed = Requests("labeled", 2), Requests("labeled", 2)
    for index in range(50):
        requests.make(step(index), torch.tensor([1, 2]), torch.tensor([index, ANY]))
    resumed.load_state_dict(requests.state_dict())
    for index in range(50, 50 + LAG):  # all that the loader may look ahead
        assert resumed.images_at(index) == [index - LAG, ANY]
