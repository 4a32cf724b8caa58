/* A database transaction: rows live as long as the guard, whether the transaction is committed, rolled back, or left in
   the middle by an error. SQLite is real, its database in memory. */
#include <sqlite3.h>
#include <stdio.h>

#include "framealloc.h"

struct row {
	int account, cents;
	char *owner;
};

static int run(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* All accounts as pool memory of the open guard. */
static int read_rows(sqlite3 *db, fa_vec *rows)
{
	sqlite3_stmt *query;
	if (sqlite3_prepare_v2(db, "SELECT account, cents, owner FROM accounts ORDER BY account", -1, &query, NULL))
		return -1;
	while (sqlite3_step(query) == SQLITE_ROW) {
		struct row row = {sqlite3_column_int(query, 0), sqlite3_column_int(query, 1), NULL};
		const char *owner = (const char *)sqlite3_column_text(query, 2);
		row.owner = fa_pool_alloc(strlen(owner) + 1);
		strcpy(row.owner, owner);
		fa_vec_push(rows, &row);
	}
	sqlite3_finalize(query);
	return 0;
}

static bool is_valid(const fa_vec *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		if (((struct row *)fa_vec_at(rows, i))->cents < 0)
			return false;
	return rows->count != 0;
}

/* Moves money; nothing happens when somebody would be in debt. */
static const char *transfer(sqlite3 *db, int from, int to, int cents)
{
	FA_POOL_GUARD(guard);
	fa_vec rows = fa_pool_vec(sizeof(struct row));
	char *sql = fa_pool_alloc(256);
	if (run(db, "BEGIN"))
		return "no transaction";
	snprintf(sql, 256,
		 "UPDATE accounts SET cents = cents - %d WHERE account = %d; "
		 "UPDATE accounts SET cents = cents + %d WHERE account = %d",
		 cents, from, cents, to);
	if (run(db, sql) || read_rows(db, &rows)) {
		run(db, "ROLLBACK");
		return "error";
	}
	if (!is_valid(&rows)) {
		run(db, "ROLLBACK");
		return "rolled back";
	}
	run(db, "COMMIT");
	return "committed"; /* the rows and their owners' names are freed here, as on every other way */
}

int main(void)
{
	sqlite3 *db;
	if (sqlite3_open(":memory:", &db))
		return 1;
	run(db, "CREATE TABLE accounts(account INTEGER, cents INTEGER, owner TEXT);"
		"INSERT INTO accounts VALUES (1, 1000, 'Ada'), (2, 500, 'Grace'), (3, 0, 'Barbara')");
	printf("%s\n", transfer(db, 1, 3, 700));
	printf("%s\n", transfer(db, 2, 1, 501));
	printf("%s\n", transfer(db, 2, 3, 500));
	{
		FA_POOL_GUARD(guard);
		fa_vec rows = fa_pool_vec(sizeof(struct row));
		read_rows(db, &rows);
		for (size_t i = 0; i < rows.count; i++) {
			const struct row *row = fa_vec_at(&rows, i);
			printf("%d %s %d\n", row->account, row->owner, row->cents);
		}
	}
	sqlite3_close(db);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("live %d\n", (int)stats.other.live_blocks);
	return 0;
}
