"""The scores of the E2E challenge, also as a module of the evaluate library: this folder.

import evaluate
from tasks.language.metrics import e2e_scores

scores = evaluate.load(e2e_scores.__path__[0])
scores.compute(predictions=["The Mill serves Thai food."], references=[["The Mill is a Thai restaurant."]])
"""

from tasks.language.metrics.bleu import BLEU
from tasks.language.metrics.coco_captions import CIDER, CIDER_13A, ROUGE_L, ROUGE_L_13A
from tasks.language.metrics.meteor import METEOR
from tasks.language.metrics.nist import NIST

E2E_METRICS = (BLEU, NIST, METEOR, ROUGE_L, CIDER, ROUGE_L_13A, CIDER_13A)
