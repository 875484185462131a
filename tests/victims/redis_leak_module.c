// A Redis module with one leak whose place is known: each SESSION.OPEN keeps a session that nothing ever closes. scripts/demo
// loads it into redis-server. The few declarations stand for redismodule.h, which the distribution does not package.
#include <stdlib.h>
#include <string.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleString RedisModuleString;
typedef int (*CommandFunction)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

static int (*set_attributes)(RedisModuleCtx *ctx, const char *name, int version, int api_version);
static int (*create_command)(RedisModuleCtx *ctx, const char *name, CommandFunction function, const char *flags, int first,
                             int last, int step);
static int (*reply_number)(RedisModuleCtx *ctx, long long number);
static const char *(*string_text)(const RedisModuleString *string, size_t *length);

struct session {
  struct session *next;
  char name[120];
};
static struct session *sessions;
static long long session_count;

// The leak: 128 bytes for each call.
__attribute__((noinline)) static struct session *leak_session(const char *name, size_t length) {
  struct session *session = malloc(sizeof *session);
  if (!session) return NULL;
  if (length >= sizeof session->name) length = sizeof session->name - 1;
  memcpy(session->name, name, length);
  session->name[length] = '\0';
  session->next = sessions;
  return sessions = session;
}

// Not a leak: as much memory, but freed at once.
__attribute__((noinline)) static int parse_request(const char *text, size_t length) {
  char *copy = malloc(length + 100);
  if (!copy) return 0;
  memcpy(copy, text, length);
  int valid = memchr(copy, '\n', length) == NULL;
  free(copy);
  return valid;
}

static int open_session(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
  size_t length = 0;
  const char *name = argc > 1 ? string_text(argv[1], &length) : "";
  if (parse_request(name, length) && leak_session(name, length)) ++session_count;
  return reply_number(ctx, session_count);
}

int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
  (void)argv, (void)argc;
  int (*get)(const char *name, void *function) = ((int (**)(const char *, void *))ctx)[0];   // as redismodule.h does
  if (get("RedisModule_SetModuleAttribs", &set_attributes) || get("RedisModule_CreateCommand", &create_command) ||
      get("RedisModule_ReplyWithLongLong", &reply_number) || get("RedisModule_StringPtrLen", &string_text)) {
    return 1;
  }
  set_attributes(ctx, "session", 1, 1);
  return create_command(ctx, "session.open", open_session, "fast", 0, 0, 0);
}
