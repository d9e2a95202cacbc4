/* A driver for a device that is none: the calls of libcuda.so.1 that pycuda and cuda-bindings make for Attune.
 *
 * Device memory is memory of the host. What is put into a stream is done when somebody waits for it, so that who does
 * not wait sees old bytes; a capture records instead. Addresses and handles are looked up before they are used, copies
 * must stay inside of one allocation and between pinned and device memory, and a thread without a current context is
 * refused, as the real driver refuses it. The functions in standin_* are the tests' own: what is alive, and what fails.
 */
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 64

typedef enum { DEVICE, PINNED, STREAM, GRAPH, EXECUTABLE, KINDS } Kind;
typedef struct Thing { Kind kind; char *address; size_t size; struct Thing *next; } Thing;
typedef struct Work { CUhostFn call; void *argument; char *to; const char *from; size_t size; struct Work *next; } Work;
typedef struct { Work *first, **last; } Queue;
struct CUstream_st { Queue work; CUstreamCaptureStatus capture; pthread_t thread; Queue recorded; };
struct CUgraph_st { Queue work; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Thing *things;
static struct CUctx_st { int dummy; } primary;
static int started, retained;
static __thread CUcontext stack[DEPTH];
static __thread int depth;
static struct { char function[64]; int after, times, code; } fault;
static int broken;

/* ---- what is alive, and what fails ---- */

long standin_alive(int kind) {
  long n = 0;
  pthread_mutex_lock(&lock);
  for (Thing *thing = things; thing; thing = thing->next) n += thing->kind == (Kind)kind;
  pthread_mutex_unlock(&lock);
  return n;
}

int standin_retained(void) { return retained; }

int standin_depth(void) { return depth; }

/* After `after` calls of `function`, without its ``_v2``, `times` give `code`. */
void standin_fail(const char *function, int after, int times, int code) {
  snprintf(fault.function, sizeof fault.function, "%s", function);
  fault.after = after, fault.times = code ? times : 0, fault.code = code;
}

/* Calls that are to fail and have not come yet. */
int standin_pending(void) { return fault.times; }

/* Every call on a context gives `code`, as after a kernel went astray; 0 ends it, for which a real one needs a new process. */
void standin_break(int code) { broken = code; }

/* Nothing is alive any more, as in a new process; what it was stays allocated. */
void standin_forget(void) { things = NULL; }

static CUresult fails(const char *function, int wants_context) {
  if (!started) return CUDA_ERROR_NOT_INITIALIZED;
  size_t n = strlen(fault.function);
  if (fault.times && !strncmp(function, fault.function, n) && (!function[n] || function[n] == '_')) {
    if (!fault.after) return fault.times--, fault.code;
    fault.after--;
  }
  if (!wants_context) return CUDA_SUCCESS;
  return broken ? (CUresult)broken : depth ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

#define CALL(wants_context) do { CUresult code_ = fails(__func__, wants_context); if (code_) return code_; } while (0)

static void *keep(Kind kind, void *address, size_t size) {
  Thing *thing = malloc(sizeof *thing);
  pthread_mutex_lock(&lock);
  *thing = (Thing){kind, address, size, things};
  things = thing;
  pthread_mutex_unlock(&lock);
  return address;
}

/* Whether all of it lies in one living thing of that kind. */
static int lives(Kind kind, const void *address, size_t size) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (Thing *thing = things; thing && !found; thing = thing->next)
    found = thing->kind == kind && (char *)address >= thing->address
            && (char *)address + size <= thing->address + thing->size;
  pthread_mutex_unlock(&lock);
  return found;
}

static int memory(const void *address, size_t n) { return lives(DEVICE, address, n) || lives(PINNED, address, n); }

static int drop(Kind kind, void *address) {
  pthread_mutex_lock(&lock);
  Thing **at = &things, *thing;
  while (*at && ((*at)->kind != kind || (*at)->address != address)) at = &(*at)->next;
  if ((thing = *at)) *at = thing->next;
  pthread_mutex_unlock(&lock);
  free(thing);
  return thing != NULL;
}

/* ---- device and context ---- */

CUresult cuInit(unsigned flags) { started = 1; return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { CALL(0); *count = 1; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int i) { CALL(0); *device = i; return i ? CUDA_ERROR_INVALID_DEVICE : 0; }
CUresult cuDeviceTotalMem(size_t *n, CUdevice device) { CALL(0); *n = 1 << 30; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int n, CUdevice device) {
  CALL(0);
  snprintf(name, n, "Stand-in");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  CALL(0);
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 6 : 0;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  CALL(0);
  retained++;
  *context = &primary;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  CALL(0);
  return retained-- > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxPushCurrent(CUcontext context) {
  CALL(0);
  if (context != &primary || depth == DEPTH) return CUDA_ERROR_INVALID_CONTEXT;
  stack[depth++] = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *context) {
  CALL(0);
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
  *context = stack[--depth];
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
  CALL(0);
  *context = depth ? stack[depth - 1] : NULL;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  CALL(0);
  depth -= depth > 0;
  if (context) stack[depth++] = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) { CALL(1); *device = 0; return CUDA_SUCCESS; }
CUresult cuCtxGetApiVersion(CUcontext context, unsigned *version) { CALL(0); *version = 3020; return CUDA_SUCCESS; }

/* ---- memory ---- */

static __thread int capturing;

/* What a thread may not do while it captures, which spoils the capture. */
static CUresult unsafe(CUstream stream) {
  if (!capturing) return CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  for (Thing *thing = things; thing; thing = thing->next) {
    CUstream each = (CUstream)thing->address;
    if (thing->kind == STREAM && each->capture && pthread_equal(each->thread, pthread_self())
        && (!stream || stream == each))
      each->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  }
  pthread_mutex_unlock(&lock);
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

static CUresult make(Kind kind, void **address, size_t n) {
  CUresult code = unsafe(NULL);
  if (code) return code;
  if (!n) return CUDA_ERROR_INVALID_VALUE;
  if (posix_memalign(address, 256, n)) return CUDA_ERROR_OUT_OF_MEMORY;
  keep(kind, memset(*address, 0xA5, n), n);
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *address, size_t n) { CALL(1); return make(DEVICE, (void **)address, n); }
CUresult cuMemHostAlloc(void **address, size_t n, unsigned flags) { CALL(1); return make(PINNED, address, n); }
static CUresult unmake(Kind kind, void *address) {
  CUresult code = unsafe(NULL);
  if (code) return code;
  if (!drop(kind, address)) return CUDA_ERROR_INVALID_VALUE;
  free(address);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) { CALL(1); return unmake(DEVICE, (void *)address); }
CUresult cuMemFreeHost(void *address) { CALL(1); return unmake(PINNED, address); }
CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *n, CUdeviceptr address) {
  CALL(0);
  CUresult found = CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_lock(&lock);
  for (Thing *thing = things; thing; thing = thing->next)
    if (thing->kind == DEVICE && (char *)address >= thing->address && (char *)address < thing->address + thing->size)
      *base = (CUdeviceptr)thing->address, *n = thing->size, found = CUDA_SUCCESS;
  pthread_mutex_unlock(&lock);
  return found;
}
CUresult cuMemGetInfo(size_t *left, size_t *all) {
  CALL(1);
  *left = *all = 1 << 30;
  pthread_mutex_lock(&lock);
  for (Thing *thing = things; thing; thing = thing->next)
    if (thing->kind == DEVICE) *left -= thing->size;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}

/* ---- streams ---- */

static void put(Queue *queue, Work work) {
  Work *kept = malloc(sizeof *kept);
  *kept = work;
  kept->next = NULL;
  *queue->last = kept;
  queue->last = &kept->next;
}
static void empty(Queue *queue) {
  while (queue->first) {
    Work *work = queue->first;
    queue->first = work->next;
    free(work);
  }
  queue->last = &queue->first;
}
static CUresult enqueue(CUstream stream, Work work) {
  if (!lives(STREAM, stream, 1)) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  put(stream->capture ? &stream->recorded : &stream->work, work);
  return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  CALL(1);
  *stream = keep(STREAM, calloc(1, sizeof **stream), sizeof **stream);
  (*stream)->work.last = &(*stream)->work.first;
  (*stream)->recorded.last = &(*stream)->recorded.first;
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  CALL(1);
  if (!drop(STREAM, stream)) return CUDA_ERROR_INVALID_HANDLE;
  empty(&stream->work), empty(&stream->recorded);
  free(stream);
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
  if (!lives(STREAM, stream, 1)) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture) return unsafe(stream);
  CUresult code = fails(__func__, 1);
  while (!code && stream->work.first) {
    Work *work = stream->work.first;
    if (!(stream->work.first = work->next)) stream->work.last = &stream->work.first;
    if (work->call) work->call(work->argument);
    else if (memory(work->to, work->size) && memory(work->from, work->size)) memcpy(work->to, work->from, work->size);
    else code = CUDA_ERROR_ILLEGAL_ADDRESS;
    free(work);
  }
  empty(&stream->work);  /* of which a device that failed does nothing any more */
  return code;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t n, CUstream stream) {
  CALL(1);
  if (!lives(DEVICE, (void *)to, n) || !lives(PINNED, from, n)) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(stream, (Work){.to = (char *)to, .from = from, .size = n});
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t n, CUstream stream) {
  CALL(1);
  if (!lives(PINNED, to, n) || !lives(DEVICE, (void *)from, n)) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(stream, (Work){.to = to, .from = (char *)from, .size = n});
}
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *argument) {
  CALL(1);
  return enqueue(stream, (Work){.call = call, .argument = argument});
}

/* ---- graphs ---- */

static CUgraph graph(Kind kind) {
  CUgraph made = keep(kind, calloc(1, sizeof *made), sizeof *made);
  made->work.last = &made->work.first;
  return made;
}
static CUresult ungraph(Kind kind, CUgraph graph) {
  if (!drop(kind, graph)) return CUDA_ERROR_INVALID_VALUE;
  empty(&graph->work);
  free(graph);
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  CALL(1);
  if (!lives(STREAM, stream, 1)) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  stream->thread = pthread_self();
  capturing++;
  return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *found) {
  *found = NULL;
  if (!lives(STREAM, stream, 1)) return CUDA_ERROR_INVALID_HANDLE;
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  if (!pthread_equal(stream->thread, pthread_self())) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  CUresult code = fails(__func__, 1);
  if (!code && stream->capture != CU_STREAM_CAPTURE_STATUS_ACTIVE) code = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  stream->capture = CU_STREAM_CAPTURE_STATUS_NONE;  /* whatever comes of it */
  capturing--;
  if (!code) {
    *found = graph(GRAPH);
    for (Work *work = stream->recorded.first; work; work = work->next) put(&(*found)->work, *work);
  }
  empty(&stream->recorded);
  return code;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  CALL(1);
  *status = stream->capture;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph from, unsigned long long flags) {
  CALL(1);
  if (!lives(GRAPH, from, 1)) return CUDA_ERROR_INVALID_VALUE;
  CUgraph copy = graph(EXECUTABLE);
  for (Work *work = from->work.first; work; work = work->next) put(&copy->work, *work);
  *made = (CUgraphExec)copy;
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  CALL(1);
  if (!lives(EXECUTABLE, executable, 1)) return CUDA_ERROR_INVALID_VALUE;
  CUresult code = CUDA_SUCCESS;
  for (Work *work = ((CUgraph)executable)->work.first; work && !code; work = work->next) code = enqueue(stream, *work);
  return code;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) { CALL(1); return ungraph(EXECUTABLE, (CUgraph)executable); }
CUresult cuGraphDestroy(CUgraph each) { CALL(1); return ungraph(GRAPH, each); }

/* ---- names of errors, and of functions ---- */

CUresult cuGetErrorString(CUresult code, const char **text) {
  *text = code == CUDA_SUCCESS ? "no error"
          : code == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory"
          : code == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
          : code == CUDA_ERROR_LAUNCH_FAILED ? "unspecified launch failure" : "an error of the stand-in";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult code, const char **text) { return cuGetErrorString(code, text); }
static CUresult unsupported(void) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult cuGetProcAddress(const char *name, void **found, int version, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult *status) {
  char newer[128];
  snprintf(newer, sizeof newer, "%s_v2", name);
  void *self = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
  if (!(*found = dlsym(self, newer)) && !(*found = dlsym(self, name))) *found = unsupported;
  if (status) *status = CU_GET_PROC_ADDRESS_SUCCESS;
  return CUDA_SUCCESS;
}
