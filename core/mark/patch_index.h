/* A module's branch targets and symbols, a bit for each byte of its code: what makes the second thousand of markers as
   cheap as a few bit tests. patch_scan.c builds one when it has searched a module a few times. */
#ifndef FA_MARK_PATCH_INDEX_H
#define FA_MARK_PATCH_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mark/image.h"

struct patch_index {
	uintptr_t start, past; /* the code it covers: all executable segments and what lies between them */
	uint64_t *target; /* bit n: a rel32 branch leads to start + n */
	uint64_t *entry; /* bit n: a dynamic symbol names start + n */
};

/* A dynamic symbol that names code of its module. */
static inline bool symbol_is_entry(const Elf64_Sym *symbol)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_NOTYPE || type == STT_GNU_IFUNC);
}

/* An empty index, but for the entries. False: no memory. */
bool index_make(struct patch_index *index, const struct image *image);
void index_free(struct patch_index *index);

/* Adds what looks like a branch at any offset in `bytes` of code that run at `address`; `readable` bytes, which may be
   more, are at hand for distances that straddle the end. */
void index_add(struct patch_index *index, const uint8_t *code, size_t bytes, size_t readable, uintptr_t address);

/* Is a bit set strictly between `first` and `past`? */
bool index_target_between(const struct patch_index *index, uintptr_t first, uintptr_t past);
bool index_entry_between(const struct patch_index *index, uintptr_t first, uintptr_t past);

#endif
