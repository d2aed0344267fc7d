"""What models take, as data: which give logprobs, and with which parameters; when they shut down."""
