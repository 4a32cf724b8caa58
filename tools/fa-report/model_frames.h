/* Frames of each thread that ran any: series and quantiles. */
#ifndef FA_REPORT_MODEL_FRAMES_H
#define FA_REPORT_MODEL_FRAMES_H

#include "tools/fa-report/model.h"

/* Fills model->frames. 0 or -ENOMEM. */
int model_frames_build(struct model *model);

#endif
