"""Raw response bodies to Arrow tables, and back. No I/O. The wire formats are listed in `registry`."""

from logprob_store.decode.decoding import Decoded, Decoder, decode_answers
from logprob_store.decode.reading import merge_stream
from logprob_store.decode.rebuild import rebuild_logprobs

__all__ = ["Decoded", "Decoder", "decode_answers", "merge_stream", "rebuild_logprobs"]
