/*
 * The wintun adapter for Node, through wintun.dll. Same shape as the other systems' devices: packets in batches into one
 * buffer that the caller owns, and batches back. There is no offload here: the header that slots have for it is filled
 * with zeros when reading, and skipped when writing. A thread waits for packets; they are copied on Node's own.
 *
 * Node-API is looked up in the running program, whatever its file is called: a packaged one is not `node.exe`.
 * Builds with GCC or Clang, linked with wintrust and advapi32.
 */
#define UNICODE
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00
#endif
#include <windows.h>
#include <node_api.h>
#include <softpub.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wintrust.h>

/* `offloadHeaderBytes` of tun/device.ts; the ring that wintun shares with us, a power of two. */
enum { OFFLOAD_BYTES = 10, RING_BYTES = 0x400000, MAX_PATH_CHARS = 1024 };

#define NODE_FUNCTIONS(X) \
  X(napi_call_function) X(napi_call_threadsafe_function) X(napi_create_external) X(napi_create_function) \
  X(napi_create_int32) X(napi_create_reference) X(napi_create_string_utf16) X(napi_create_string_utf8) \
  X(napi_create_threadsafe_function) X(napi_delete_reference) X(napi_fatal_exception) X(napi_get_boolean) \
  X(napi_get_and_clear_last_exception) X(napi_get_cb_info) X(napi_get_typedarray_info) X(napi_get_undefined) \
  X(napi_get_value_external) X(napi_get_value_int32) X(napi_get_value_string_utf16) \
  X(napi_release_threadsafe_function) X(napi_set_named_property) X(napi_throw_error)
#define DECLARE(name) __typeof__(name) *name;
static struct { NODE_FUNCTIONS(DECLARE) } node;

typedef struct wintun_adapter *adapter_t;
typedef struct wintun_session *session_t;
#define WINTUN_FUNCTIONS(X) \
  X(CreateAdapter, adapter_t, (const wchar_t *name, const wchar_t *type, const GUID *guid)) \
  X(CloseAdapter, void, (adapter_t adapter)) \
  X(StartSession, session_t, (adapter_t adapter, DWORD ring_bytes)) \
  X(EndSession, void, (session_t session)) \
  X(GetReadWaitEvent, HANDLE, (session_t session)) \
  X(ReceivePacket, BYTE *, (session_t session, DWORD *bytes)) \
  X(ReleaseReceivePacket, void, (session_t session, const BYTE *packet)) \
  X(AllocateSendPacket, BYTE *, (session_t session, DWORD bytes)) \
  X(SendPacket, void, (session_t session, const BYTE *packet))
#define DECLARE_WINTUN(name, result, arguments) result(WINAPI *name) arguments;
static struct { WINTUN_FUNCTIONS(DECLARE_WINTUN) } wintun;

struct device {
  adapter_t adapter;
  session_t session;
  /* Set when the reader is to end; set when everything that was there has been read. */
  HANDLE ending, drained, thread;
  napi_threadsafe_function notify;
  napi_ref buffer_ref, lengths_ref;
  int slot_bytes, max_packets;
  uint8_t *buffer;
  int32_t *lengths;
  bool is_closed;
};

static napi_value fail(napi_env env, const char *what) {
  char text[160];
  snprintf(text, sizeof text, "%s: error %lu", what, GetLastError());
  node.napi_throw_error(env, NULL, text);
  return NULL;
}

static int32_t to_int(napi_env env, napi_value value) {
  int32_t number = 0;
  node.napi_get_value_int32(env, value, &number);
  return number;
}

static napi_value from_int(napi_env env, int32_t number) {
  napi_value value;
  node.napi_create_int32(env, number, &value);
  return value;
}

static void *bytes_of(napi_env env, napi_value value, size_t *length) {
  napi_typedarray_type type;
  napi_value array;
  size_t offset, count = 0;
  void *data = NULL;
  node.napi_get_typedarray_info(env, value, &type, &count, &data, &array, &offset);
  *length = type == napi_int32_array ? count * 4 : count;
  return data;
}

static struct device *device_of(napi_env env, napi_value value) {
  struct device *device = NULL;
  node.napi_get_value_external(env, value, (void **)&device);
  return device;
}

/* Signed by somebody whom this machine trusts, and not changed since. */
static bool is_signed(const wchar_t *path) {
  GUID action = WINTRUST_ACTION_GENERIC_VERIFY_V2;
  WINTRUST_FILE_INFO file = {.cbStruct = sizeof file, .pcwszFilePath = path};
  WINTRUST_DATA data = {.cbStruct = sizeof data, .dwUIChoice = WTD_UI_NONE, .fdwRevocationChecks = WTD_REVOKE_NONE};
  data.dwUnionChoice = WTD_CHOICE_FILE;
  data.pFile = &file;
  data.dwStateAction = WTD_STATEACTION_VERIFY;
  LONG status = WinVerifyTrust(INVALID_HANDLE_VALUE, &action, &data);
  data.dwStateAction = WTD_STATEACTION_CLOSE;
  WinVerifyTrust(INVALID_HANDLE_VALUE, &action, &data);
  SetLastError((DWORD)status);
  return status == ERROR_SUCCESS;
}

/* By its full path, and what it needs from the system's folder only. Held open meanwhile: nobody can exchange it. */
static const char *load(const wchar_t *path) {
  if (wintun.CreateAdapter) return NULL;
  HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
  if (file == INVALID_HANDLE_VALUE) return "open wintun.dll";
  bool is_trusted = is_signed(path);
  HMODULE library = is_trusted ? LoadLibraryExW(path, NULL, LOAD_LIBRARY_SEARCH_SYSTEM32) : NULL;
  DWORD error = GetLastError();
  CloseHandle(file);
  SetLastError(error);
  if (!library) return is_trusted ? "load wintun.dll" : "signature of wintun.dll";
#define LOOK_UP(name, result, arguments) \
  wintun.name = (result(WINAPI *) arguments)(void (*)(void))GetProcAddress(library, "Wintun" #name); \
  if (!wintun.name) return "Wintun" #name;
  WINTUN_FUNCTIONS(LOOK_UP)
  return NULL;
}

/* The same name is the same adapter: Windows keeps a profile of each that it ever saw. FNV-1a, twice. */
static GUID guid_of(const wchar_t *name) {
  uint64_t halves[2] = {0xcbf29ce484222325ull, 0x9ae16a3b2f90404full};
  GUID guid;
  for (int half = 0; half < 2; half++) {
    for (const wchar_t *at = name; *at; at++) halves[half] = (halves[half] ^ (uint64_t)*at) * 0x100000001b3ull;
  }
  memcpy(&guid, halves, sizeof guid);
  return guid;
}

/* open(name, library) -> device */
static napi_value open_device(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  napi_value arguments[2], handle;
  wchar_t name[64], path[MAX_PATH_CHARS];
  node.napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  node.napi_get_value_string_utf16(env, arguments[0], (char16_t *)name, 64, &length);
  node.napi_get_value_string_utf16(env, arguments[1], (char16_t *)path, MAX_PATH_CHARS, &length);
  const char *failed = load(path);
  if (failed) {
    wintun.CreateAdapter = NULL;
    return fail(env, failed);
  }
  GUID guid = guid_of(name);
  struct device *device = calloc(1, sizeof *device);
  if (!device) return fail(env, "calloc");
  device->adapter = wintun.CreateAdapter(name, L"Nearfield", &guid);
  if (!device->adapter) {
    free(device);
    return fail(env, "WintunCreateAdapter");
  }
  device->session = wintun.StartSession(device->adapter, RING_BYTES);
  if (!device->session) {
    fail(env, "WintunStartSession");
    wintun.CloseAdapter(device->adapter);
    free(device);
    return NULL;
  }
  node.napi_create_external(env, device, NULL, NULL, &handle);
  return handle;
}

/* On Node's thread: everything that is there, a batch for each call. */
static void on_packets(napi_env env, napi_value callback, void *context, void *data) {
  struct device *device = context;
  int count = 0;
  bool is_empty = false;
  (void)data;
  if (!env || device->is_closed) return;
  while (count < device->max_packets) {
    DWORD length = 0;
    BYTE *packet = wintun.ReceivePacket(device->session, &length);
    if (!packet) {
      is_empty = true;
      break;
    }
    uint8_t *slot = device->buffer + (size_t)count * device->slot_bytes;
    if (length <= (DWORD)(device->slot_bytes - OFFLOAD_BYTES)) {
      memset(slot, 0, OFFLOAD_BYTES);
      memcpy(slot + OFFLOAD_BYTES, packet, length);
      device->lengths[count++] = (int32_t)length + OFFLOAD_BYTES;
    }
    wintun.ReleaseReceivePacket(device->session, packet);
  }
  if (count > 0) {
    napi_value receiver, argument = from_int(env, count);
    node.napi_get_undefined(env, &receiver);
    if (node.napi_call_function(env, receiver, callback, 1, &argument, NULL) == napi_pending_exception) {
      napi_value error;
      node.napi_get_and_clear_last_exception(env, &error);
      node.napi_fatal_exception(env, error);
    }
  }
  /* The callback may have closed the device. */
  if (device->is_closed) return;
  if (is_empty) {
    SetEvent(device->drained);
  } else {
    node.napi_call_threadsafe_function(device->notify, NULL, napi_tsfn_nonblocking);
  }
}

static DWORD WINAPI wait_for_packets(void *argument) {
  struct device *device = argument;
  HANDLE readable[2] = {device->ending, wintun.GetReadWaitEvent(device->session)};
  HANDLE drained[2] = {device->ending, device->drained};
  while (WaitForMultipleObjects(2, readable, FALSE, INFINITE) == WAIT_OBJECT_0 + 1) {
    node.napi_call_threadsafe_function(device->notify, NULL, napi_tsfn_nonblocking);
    if (WaitForMultipleObjects(2, drained, FALSE, INFINITE) != WAIT_OBJECT_0 + 1) break;
  }
  return 0;
}

static void release(napi_env env, void *data, void *hint) {
  struct device *device = data;
  (void)hint;
  if (device->buffer_ref) node.napi_delete_reference(env, device->buffer_ref);
  if (device->lengths_ref) node.napi_delete_reference(env, device->lengths_ref);
  free(device);
}

/* start(device, buffer, slotBytes, maxPackets, lengths, callback(count)). The buffers stay referenced. */
static napi_value start(napi_env env, napi_callback_info info) {
  size_t count = 6, size = 0, lengths_size = 0;
  napi_value arguments[6], name;
  node.napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct device *device = device_of(env, arguments[0]);
  device->buffer = bytes_of(env, arguments[1], &size);
  device->slot_bytes = to_int(env, arguments[2]);
  device->max_packets = to_int(env, arguments[3]);
  device->lengths = bytes_of(env, arguments[4], &lengths_size);
  bool fits = device->slot_bytes > OFFLOAD_BYTES && device->max_packets > 0 &&
              (size_t)device->slot_bytes * device->max_packets <= size && (size_t)device->max_packets * 4 <= lengths_size;
  if (!fits || device->thread) {
    SetLastError(ERROR_INVALID_PARAMETER);
    return fail(env, "start");
  }
  node.napi_create_string_utf8(env, "nearfield-tun", NAPI_AUTO_LENGTH, &name);
  napi_status status = node.napi_create_threadsafe_function(env, arguments[5], NULL, name, 0, 1, device, release, device,
                                                            on_packets, &device->notify);
  if (status != napi_ok) return fail(env, "threadsafe function");
  node.napi_create_reference(env, arguments[1], 1, &device->buffer_ref);
  node.napi_create_reference(env, arguments[4], 1, &device->lengths_ref);
  device->ending = CreateEventW(NULL, TRUE, FALSE, NULL);
  device->drained = CreateEventW(NULL, FALSE, FALSE, NULL);
  device->thread = CreateThread(NULL, 0, wait_for_packets, device, 0, NULL);
  return device->thread ? NULL : fail(env, "CreateThread");
}

static bool write_packet(session_t session, const uint8_t *packet, DWORD length) {
  BYTE *to = wintun.AllocateSendPacket(session, length);
  if (!to) return false;
  memcpy(to, packet, length);
  wintun.SendPacket(session, to);
  return true;
}

/* write(device, buffer, descriptors, count) -> packets the ring had no room for; descriptors are offset and length pairs. */
static napi_value write_packets(napi_env env, napi_callback_info info) {
  size_t count = 4, size = 0, descriptors_size = 0;
  napi_value arguments[4];
  node.napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct device *device = device_of(env, arguments[0]);
  uint8_t *buffer = bytes_of(env, arguments[1], &size);
  int32_t *descriptors = bytes_of(env, arguments[2], &descriptors_size);
  int packets = to_int(env, arguments[3]), failed = 0;
  for (int i = 0; i < packets && (size_t)i * 8 + 8 <= descriptors_size; i++) {
    int32_t offset = descriptors[2 * i], length = descriptors[2 * i + 1];
    bool fits = offset >= 0 && length > OFFLOAD_BYTES && (size_t)offset + length <= size;
    if (!fits || !write_packet(device->session, buffer + offset + OFFLOAD_BYTES, (DWORD)(length - OFFLOAD_BYTES))) {
      failed++;
    }
  }
  return from_int(env, failed);
}

/* close(device): once. The thread is gone before the session is; the memory goes when Node has let go of it. */
static napi_value close_device(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  node.napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  struct device *device = device_of(env, argument);
  device->is_closed = true;
  if (device->thread) {
    SetEvent(device->ending);
    WaitForSingleObject(device->thread, INFINITE);
    CloseHandle(device->thread);
  }
  if (device->ending) CloseHandle(device->ending);
  if (device->drained) CloseHandle(device->drained);
  wintun.EndSession(device->session);
  wintun.CloseAdapter(device->adapter);
  if (device->notify) {
    node.napi_release_threadsafe_function(device->notify, napi_tsfn_abort);
  } else {
    free(device);
  }
  return NULL;
}

/* systemDirectory() -> where Windows' own programs are */
static napi_value system_directory(napi_env env, napi_callback_info info) {
  wchar_t path[MAX_PATH_CHARS];
  napi_value value;
  (void)info;
  UINT length = GetSystemDirectoryW(path, MAX_PATH_CHARS);
  if (length == 0 || length >= MAX_PATH_CHARS) return fail(env, "GetSystemDirectory");
  node.napi_create_string_utf16(env, (const char16_t *)path, length, &value);
  return value;
}

/* isElevated() -> whether this process has an administrator's rights */
static napi_value is_elevated(napi_env env, napi_callback_info info) {
  HANDLE token;
  TOKEN_ELEVATION elevation = {0};
  DWORD size = 0;
  napi_value value;
  (void)info;
  if (OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token)) {
    GetTokenInformation(token, TokenElevation, &elevation, sizeof elevation, &size);
    CloseHandle(token);
  }
  node.napi_get_boolean(env, elevation.TokenIsElevated != 0, &value);
  return value;
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  node.napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value);
  node.napi_set_named_property(env, exports, name, value);
}

NAPI_MODULE_INIT() {
  HMODULE program = GetModuleHandleW(NULL);
#define LOOK_UP_NODE(name) \
  node.name = (__typeof__(node.name))(void (*)(void))GetProcAddress(program, #name); \
  if (!node.name) return NULL;
  NODE_FUNCTIONS(LOOK_UP_NODE)
  add(env, exports, "open", open_device);
  add(env, exports, "start", start);
  add(env, exports, "write", write_packets);
  add(env, exports, "close", close_device);
  add(env, exports, "systemDirectory", system_directory);
  add(env, exports, "isElevated", is_elevated);
  return exports;
}
