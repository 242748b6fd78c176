"""The published architectures of emotional voice conversion: DiffVC, EmoReg, HiFi-GAN, Vocos."""
