"""The evaluation programs behind the papers' "Dice" and "mIoU", each score under a distinctive name."""
