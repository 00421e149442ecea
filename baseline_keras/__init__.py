"""The challenge's official Keras baseline, on today's Keras; independent of `delf_ext`, writes the same records.

Source: the baseline handed out with the NAVER AI Hackathon 2018, image retrieval (published: mAP 0.0116 after 100 epochs).
"""
