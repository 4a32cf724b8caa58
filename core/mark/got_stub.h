/* How many functions can be bound without touching code: got_stub.S makes the stubs, got.c hands them out. */
#ifndef FA_MARK_GOT_STUB_H
#define FA_MARK_GOT_STUB_H

#define GOT_STUBS 256

#endif
