"""Train the challenge's official Keras baseline with today's Keras.

It has its own network and training loop. Its run directories have the same format as those of
`delf_ext`. Source: the baseline of the NAVER AI Hackathon 2018, image retrieval (published result:
mAP 0.0116 after 100 epochs).
"""
