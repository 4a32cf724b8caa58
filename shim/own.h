/* Tells core which functions the library takes over. */
#ifndef FA_SHIM_OWN_H
#define FA_SHIM_OWN_H

void own_list(void);

#endif
