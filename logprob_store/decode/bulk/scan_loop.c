/* The scanner's loop: one pass over the bytes of JSON.

Each text is followed by a byte 0, which JSON never contains. No function moves past a byte before it knows that it is
not that 0, so that no loop runs past a text, whatever its bytes are. Brackets are followed by functions that call each
other to a fixed depth. A value that is not regular (`scanner.py` says what that is) ends the scan of that value alone.

`scan_loop.py` has the layout of all arrays, and says how much memory they need. A copy is never longer than what was
read for it; so texts, numbers and lists of bytes each fit into as many bytes as there is JSON. A row that is kept has a
token and a logprob, so that SHORTEST_ROW bytes of JSON belong to it alone.

Freestanding: no library is called, not even C's, so that one build serves every Python and every Linux. */

#include <stdbool.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Keys of a token or an alternative, whose numbers are bits of a mask; then those of sections. */
enum { TOKEN, LOGPROB, BYTES, ID, TOKEN_ID, TOP_LOGPROBS, CONTENT, REFUSAL, REASONING_CONTENT, KEYS };
static const char *const KEY_TEXT[KEYS] = {"token",        "logprob", "bytes",   "id",               "token_id",
                                           "top_logprobs", "content", "refusal", "reasoning_content"};
static const int REQUIRED_KEYS = 1 << TOKEN | 1 << LOGPROB;
static const int BOTH_IDS = 1 << ID | 1 << TOKEN_ID; /* not regular: there is one column for an id */

/* Values under a section's key, beside 0, which is absent. */
enum { NULL_SECTION = 1, LISTED = 2 };
/* Bits of a row's presence. */
enum { HAS_BYTES = 1, NAMES_ID = 2, HAS_ID = 4 };

enum { MAX_RANK = 32767, MAX_NUMBER_LENGTH = 32, MAX_INTEGER_LENGTH = 15, MAX_EXPONENT_DIGITS = 2 };
enum { HIGH_SURROGATE = 0xD800, LOW_SURROGATE = 0xDC00, AFTER_SURROGATES = 0xE000 };

/* Columns of a table, each `stride` long. Row n + 1 of the first three says where row n ends in the buffer. */
enum { TEXT_END, NUMBER_END, BYTES_END, PRESENCE, ROW_TOKEN_ID, OWNER, POSITION, SECTION };
/* Items of `ends`: where texts, numbers and bytes end so far, the rows so far, and how many rows fit. */
enum { ROW_COUNT = 3, STRIDE = 4 };
enum { ENDS_BEFORE = 4 }; /* how many of them a value that is not regular gives back */

/* Columns of a summary. */
enum { TEXT_NUMBER, START, END, SECTIONS, TOKEN_KEYS = 6, ALTERNATIVE_KEYS, NULL_TOPS, SUMMARY_WIDTH };

/* Items of `counts`. */
enum { TEXT_COUNT, IS_WITHIN, MAX_VALUES, TEXTS_DONE, VALUE_COUNT };

typedef const uint8_t *Text; /* a place in the JSON; NULL where a value turned out not to be regular */
#define IRREGULAR ((Text)0)

typedef struct {
    uint8_t *buffer;
    int64_t *columns, *ends;
} Table;

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

static Text skip_space(Text at) {
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
    return at;
}

static int hexadecimal(uint8_t digit) {
    if (is_digit(digit)) return digit - '0';
    digit |= 'a' ^ 'A';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The value of four hexadecimal digits, or -1. */
static int read_code(Text at) {
    int code = 0;
    for (int n = 0; n < 4; n++) {
        int digit = hexadecimal(at[n]);
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* Write a character as UTF-8; returns where it ends. */
static uint8_t *write_character(int code, uint8_t *out) {
    if (code < 0x80) {
        *out++ = (uint8_t)code;
        return out;
    }
    if (code < 0x800) {
        *out++ = (uint8_t)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *out++ = (uint8_t)(0xE0 | code >> 12);
        } else {
            *out++ = (uint8_t)(0xF0 | code >> 18);
            *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        }
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    }
    *out++ = (uint8_t)(0x80 | (code & 0x3F));
    return out;
}

/* Read what follows a backslash and write the character. */
static Text copy_escape(Text at, uint8_t **out) {
    uint8_t character;
    switch (*at) {
    case '"': case '\\': case '/': character = *at; break;
    case 'b': character = '\b'; break;
    case 'f': character = '\f'; break;
    case 'n': character = '\n'; break;
    case 'r': character = '\r'; break;
    case 't': character = '\t'; break;
    case 'u': {
        int code = read_code(at + 1);
        if (code < 0 || (code >= LOW_SURROGATE && code < AFTER_SURROGATES)) return IRREGULAR;
        at += 5;
        if (code >= HIGH_SURROGATE && code < LOW_SURROGATE) {
            int low = at[0] == '\\' && at[1] == 'u' ? read_code(at + 2) : -1;
            if (low < LOW_SURROGATE || low >= AFTER_SURROGATES) return IRREGULAR;
            code = 0x10000 + ((code - HIGH_SURROGATE) << 10) + (low - LOW_SURROGATE);
            at += 6;
        }
        *out = write_character(code, *out);
        return at;
    }
    default: return IRREGULAR;
    }
    *(*out)++ = character;
    return at + 1;
}

/* Copy a string without its quotes. */
static Text copy_string(Text at, uint8_t *buffer, int64_t *end) {
    uint8_t *out = buffer + *end;
    if (*at++ != '"') return IRREGULAR;
    while (*at != '"') {
        if (*at == '\\') {
            at = copy_escape(at + 1, &out);
            if (at == IRREGULAR) return IRREGULAR;
        } else if (*at < ' ') {
            return IRREGULAR;
        } else {
            *out++ = *at++;
        }
    }
    *end = out - buffer;
    return at + 1;
}

/* Skip digits, of which there has to be one. */
static Text skip_digits(Text at) {
    if (!is_digit(*at)) return IRREGULAR;
    while (is_digit(*at)) at++;
    return at;
}

/* Where a number ends, if a float holds it as Python's JSON reads it. */
static Text find_end_of_number(Text at) {
    Text start = at;
    at = skip_digits(at + (*at == '-'));
    if (at == IRREGULAR) return IRREGULAR;
    if (*at != '.' && (*at | 0x20) != 'e') {
        bool is_zero_below = start[0] == '-' && start[1] == '0';
        return is_zero_below || at - start > MAX_INTEGER_LENGTH ? IRREGULAR : at;
    }
    if (*at == '.') {
        at = skip_digits(at + 1);
        if (at == IRREGULAR) return IRREGULAR;
    }
    if ((*at | 0x20) == 'e') {
        at++;
        Text digits = at + (*at == '-' || *at == '+');
        at = skip_digits(digits);
        if (at == IRREGULAR || at - digits > MAX_EXPONENT_DIGITS) return IRREGULAR;
    }
    return at - start >= MAX_NUMBER_LENGTH ? IRREGULAR : at;
}

/* Copy a number as it is written. */
static Text copy_number(Text at, uint8_t *buffer, int64_t *end) {
    Text behind = find_end_of_number(at);
    if (behind == IRREGULAR) return IRREGULAR;
    uint8_t *out = buffer + *end;
    while (at != behind) *out++ = *at++;
    *end = out - buffer;
    return behind;
}

/* Read an integer without a sign that is at most `most`. */
static Text read_integer(Text at, int64_t most, int64_t *value) {
    Text start = at;
    *value = 0;
    while (is_digit(*at) && *value <= most) *value = *value * 10 + (*at++ - '0');
    return at == start || *value > most ? IRREGULAR : at;
}

static Text skip_null(Text at) {
    return at[0] == 'n' && at[1] == 'u' && at[2] == 'l' && at[3] == 'l' ? at + 4 : IRREGULAR;
}

/* Behind an item of a list or an object: the next one, or the closing bracket. */
static Text skip_comma(Text at, uint8_t close) {
    at = skip_space(at);
    if (*at == close) return at;
    if (*at != ',') return IRREGULAR;
    at = skip_space(at + 1);
    return *at == close ? IRREGULAR : at;
}

/* Read a key and its colon, if it is one of those from `first` to `last` and not in `seen` yet. */
static Text read_key(Text at, int first, int last, int *seen, int *key) {
    if (*at++ != '"') return IRREGULAR;
    for (*key = first; *key <= last; ++*key) {
        const char *text = KEY_TEXT[*key];
        int size = 0;
        while (text[size] != 0 && at[size] == (uint8_t)text[size]) size++;
        if (text[size] != 0 || at[size] != '"') continue;
        if (*seen >> *key & 1) return IRREGULAR;
        *seen |= 1 << *key;
        at = skip_space(at + size + 1);
        return *at == ':' ? skip_space(at + 1) : IRREGULAR;
    }
    return IRREGULAR;
}

/* Read a list of bytes and write them. */
static Text copy_bytes(Text at, uint8_t *buffer, int64_t *end) {
    if (*at != '[') return IRREGULAR;
    at = skip_space(at + 1);
    int64_t out = *end;
    while (*at != ']') {
        int64_t byte;
        at = read_integer(at, 255, &byte);
        if (at == IRREGULAR) return IRREGULAR;
        buffer[out++] = (uint8_t)byte;
        at = skip_comma(at, ']');
        if (at == IRREGULAR) return IRREGULAR;
    }
    *end = out;
    return at + 1;
}

static int64_t *cell(Table table, int column) {
    return table.columns + column * table.ends[STRIDE] + table.ends[ROW_COUNT];
}

/* Read the value of a key into the open row. */
static Text read_value(Text at, int key, Table table) {
    if (key == TOKEN) return copy_string(at, table.buffer, &table.ends[TEXT_END]);
    if (key == LOGPROB) return copy_number(at, table.buffer, &table.ends[NUMBER_END]);
    if (key != BYTES) *cell(table, PRESENCE) |= NAMES_ID;
    if (*at == 'n') return skip_null(at);
    if (key == BYTES) {
        *cell(table, PRESENCE) |= HAS_BYTES;
        return copy_bytes(at, table.buffer, &table.ends[BYTES_END]);
    }
    bool is_negative = *at == '-';
    int64_t number;
    at = read_integer(at + is_negative, INT32_MAX, &number);
    *cell(table, ROW_TOKEN_ID) = is_negative ? -number : number;
    *cell(table, PRESENCE) |= HAS_ID;
    return at;
}

/* Open a row; false if the table is full. */
static bool open_row(Table table, int64_t owner, int64_t position) {
    if (table.ends[ROW_COUNT] + 1 >= table.ends[STRIDE]) return false;
    *cell(table, PRESENCE) = 0;
    *cell(table, OWNER) = owner;
    *cell(table, POSITION) = position;
    return true;
}

/* Close the open row, if its keys are those of all others. */
static bool close_row(Table table, int keys, int64_t *keys_of_all) {
    if (*keys_of_all == 0) *keys_of_all = keys;
    if (*keys_of_all != keys || (keys & REQUIRED_KEYS) != REQUIRED_KEYS || (keys & BOTH_IDS) == BOTH_IDS) return false;
    table.ends[ROW_COUNT]++;
    *cell(table, TEXT_END) = table.ends[TEXT_END];
    *cell(table, NUMBER_END) = table.ends[NUMBER_END];
    *cell(table, BYTES_END) = table.ends[BYTES_END];
    return true;
}

static Text scan_alternative(Text at, int64_t owner, int64_t rank, Table alternatives, int64_t *summary) {
    if (*at != '{' || !open_row(alternatives, owner, rank)) return IRREGULAR;
    int keys = 0;
    at = skip_space(at + 1);
    while (*at != '}') {
        int key;
        at = read_key(at, TOKEN, TOKEN_ID, &keys, &key);
        if (at == IRREGULAR) return IRREGULAR;
        at = read_value(at, key, alternatives);
        if (at == IRREGULAR) return IRREGULAR;
        at = skip_comma(at, '}');
        if (at == IRREGULAR) return IRREGULAR;
    }
    return close_row(alternatives, keys, &summary[ALTERNATIVE_KEYS]) ? at + 1 : IRREGULAR;
}

static Text scan_alternatives(Text at, int64_t owner, Table alternatives, int64_t *summary) {
    if (*at == 'n') {
        summary[NULL_TOPS]++;
        return skip_null(at);
    }
    if (*at != '[') return IRREGULAR;
    at = skip_space(at + 1);
    for (int64_t rank = 0; *at != ']'; rank++) {
        if (rank == MAX_RANK) return IRREGULAR;
        at = scan_alternative(at, owner, rank, alternatives, summary);
        if (at == IRREGULAR) return IRREGULAR;
        at = skip_comma(at, ']');
        if (at == IRREGULAR) return IRREGULAR;
    }
    return at + 1;
}

static Text scan_token(
    Text at, int64_t value, int64_t position, int section, Table tokens, Table alternatives, int64_t *summary
) {
    if (*at != '{' || !open_row(tokens, value, position)) return IRREGULAR;
    *cell(tokens, SECTION) = section;
    int keys = 0;
    at = skip_space(at + 1);
    while (*at != '}') {
        int key;
        at = read_key(at, TOKEN, TOP_LOGPROBS, &keys, &key);
        if (at == IRREGULAR) return IRREGULAR;
        if (key == TOP_LOGPROBS) {
            at = scan_alternatives(at, tokens.ends[ROW_COUNT], alternatives, summary);
        } else {
            at = read_value(at, key, tokens);
        }
        if (at == IRREGULAR) return IRREGULAR;
        at = skip_comma(at, '}');
        if (at == IRREGULAR) return IRREGULAR;
    }
    return close_row(tokens, keys, &summary[TOKEN_KEYS]) ? at + 1 : IRREGULAR;
}

static Text scan_section(Text at, int64_t value, int section, Table tokens, Table alternatives, int64_t *summary) {
    if (*at == 'n') {
        summary[SECTIONS + section] = NULL_SECTION;
        return skip_null(at);
    }
    if (*at != '[') return IRREGULAR;
    summary[SECTIONS + section] = LISTED;
    at = skip_space(at + 1);
    for (int64_t position = 0; *at != ']'; position++) {
        at = scan_token(at, value, position, section, tokens, alternatives, summary);
        if (at == IRREGULAR) return IRREGULAR;
        at = skip_comma(at, ']');
        if (at == IRREGULAR) return IRREGULAR;
    }
    return at + 1;
}

/* Scan the value that starts here; returns where it ends, if it is regular. */
static Text scan_value(Text at, int64_t value, Table tokens, Table alternatives, int64_t *summary) {
    int64_t rows_before = tokens.ends[ROW_COUNT];
    int keys = 0;
    at = skip_space(at);
    if (*at != '{') return IRREGULAR;
    at = skip_space(at + 1);
    while (*at != '}') {
        int key;
        at = read_key(at, CONTENT, REASONING_CONTENT, &keys, &key);
        if (at == IRREGULAR) return IRREGULAR;
        at = scan_section(at, value, key - CONTENT, tokens, alternatives, summary);
        if (at == IRREGULAR) return IRREGULAR;
        at = skip_comma(at, '}');
        if (at == IRREGULAR) return IRREGULAR;
    }
    bool all_null = summary[NULL_TOPS] == tokens.ends[ROW_COUNT] - rows_before;
    return keys != 0 && (summary[NULL_TOPS] == 0 || all_null) ? at + 1 : IRREGULAR;
}

/* The place behind the next key `logprobs` and its colon. No string contains that, as its quotes would be escaped. */
static Text find_logprobs(Text at) {
    static const char KEY[] = "\"logprobs\":";
    for (; *at != 0; at++) {
        int same = 0;
        while (KEY[same] != 0 && at[same] == (uint8_t)KEY[same]) same++;
        if (KEY[same] == 0) return at + same;
    }
    return IRREGULAR;
}

static void copy_ends(const int64_t *from, int64_t *to) {
    for (int n = 0; n < ENDS_BEFORE; n++) to[n] = from[n];
}

/* Scan the values of all texts. The next value overwrites the rows of one that is not regular. */
EXPORT void scan_all(
    const uint8_t *text, const int64_t *starts, int64_t *counts, uint8_t *buffer, int64_t *token_columns,
    int64_t *token_ends, int64_t *alternative_columns, int64_t *alternative_ends, int64_t *summaries
) {
    Table tokens = {buffer, token_columns, token_ends};
    Table alternatives = {buffer, alternative_columns, alternative_ends};
    for (int64_t number = 0; number < counts[TEXT_COUNT]; number++) {
        Text at = text + starts[number];
        do {
            if (counts[IS_WITHIN] && (at = find_logprobs(at)) == IRREGULAR) break;
            int64_t value = counts[VALUE_COUNT];
            if (value == counts[MAX_VALUES]) return;
            counts[VALUE_COUNT]++;
            int64_t *summary = summaries + value * SUMMARY_WIDTH;
            summary[TEXT_NUMBER] = number;
            summary[START] = at - text;
            int64_t token_ends_before[ENDS_BEFORE], alternative_ends_before[ENDS_BEFORE];
            copy_ends(token_ends, token_ends_before);
            copy_ends(alternative_ends, alternative_ends_before);
            Text end = scan_value(at, value, tokens, alternatives, summary);
            if (end != IRREGULAR) {
                at = end;
                summary[END] = end - text;
            } else {
                copy_ends(token_ends_before, token_ends);
                copy_ends(alternative_ends_before, alternative_ends);
            }
        } while (counts[IS_WITHIN]);
        counts[TEXTS_DONE]++;
    }
}

/* Which source this was made of; `scan_loop.py` does not use the build of another one. */
EXPORT const uint32_t source_checksum = SOURCE_CHECKSUM;
