"""Products of two square matrices in TensorFlow, as many as protocol.py is told to make."""

import argparse
import os

import protocol

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--size", type=int, default=2048)
    arguments = parser.parse_args()
    import tensorflow as tf

    left, right = (
        tf.cast(tf.random.stateless_normal([arguments.size] * 2, [0, number]), arguments.dtype)
        for number in range(2)
    )

    @tf.function
    def product() -> tf.Tensor:
        return tf.matmul(left, right)

    def run(count: int) -> float:
        for _ in range(count):
            result = product()
        return float(result[0, 0])

    run(1)
    protocol.serve({}, run)


if __name__ == "__main__":
    main()
