/* The policy in force: options, presets and the policy file put together, once, at start-up. */
#ifndef FA_POLICY_H
#define FA_POLICY_H

#include "core/registry/policy.h"

/* Written by policy_load only. */
extern struct policy policy_in_force;

/* From the constructor, before anything is bound: reads what runtime.options names. What is wrong goes to standard
   error, a line each, and is left out. */
void policy_load(void);

/* Writes down what of the policy only reports need. */
void policy_begin_recording(void);

/* Whether frames are marked by name; zero configuration is off then, and where `frame=none` was given. */
bool policy_marks_frames(void);

/* Whether a rule says which threads run frames; without one it is the main thread. */
bool policy_names_frame_threads(void);

#endif
