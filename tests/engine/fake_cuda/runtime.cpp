// Answers what torch asks of libc10_cuda and of the CUDA runtime between two kernels, for one device that is not there:
// preloaded, so that torch's fake tensors can run backward passes on "cuda:0". FAKE_SM is its compute capability, e.g. 90.
// Made for torch 2.14 with CUDA 13; a torch that asks for more ends in an error that names the missing driver.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>

#define SEEN __attribute__((visibility("default")))

namespace c10::cuda {

using Index = signed char;

SEEN Index device_count() noexcept { return 1; }
SEEN Index device_count_ensure_non_zero() { return 1; }
SEEN Index current_device() { return 0; }
SEEN void set_device(Index, bool) {}
SEEN int GetDevice(Index* device) { *device = 0; return 0; }
SEEN int SetDevice(Index, bool) { return 0; }
SEEN int MaybeSetDevice(Index) { return 0; }
SEEN Index ExchangeDevice(Index) { return 0; }
SEEN Index MaybeExchangeDevice(Index) { return 0; }
SEEN bool hasPrimaryContext(Index) { return false; }
SEEN std::optional<Index> getDeviceIndexWithPrimaryContext() { return std::nullopt; }

struct CUDAStream {  // as c10::Stream lies in memory
  Index type;
  Index device;
  long id;
};

SEEN CUDAStream getCurrentCUDAStream(Index) { return {1, 0, 0}; }
SEEN CUDAStream getDefaultCUDAStream(Index) { return {1, 0, 0}; }
SEEN void setCurrentCUDAStream(CUDAStream) {}

}  // namespace c10::cuda

namespace {

struct Properties {  // cudaDeviceProp of CUDA 13 (driver_types.h) up to `minor`
  char name[256];
  char uuid[16];
  char luid[8];
  unsigned node_mask;
  size_t memory;
  size_t shared_memory;
  int registers;
  int warp;
  size_t pitch;
  int threads;
  int block[3];
  int grid[3];
  size_t constants;
  int major;
  int minor;
};

constexpr size_t cleared = 700;  // bytes of the whole struct that are set to zero

}  // namespace

extern "C" {

SEEN int cudaGetDeviceProperties(void* wanted, int) {
  std::memset(wanted, 0, cleared);
  auto* properties = static_cast<Properties*>(wanted);
  std::strcpy(properties->name, "fake");
  properties->warp = 32;
  properties->threads = 1024;
  const char* text = std::getenv("FAKE_SM");
  const int capability = text ? std::atoi(text) : 90;
  properties->major = capability / 10;
  properties->minor = capability % 10;
  return 0;
}

SEEN int cudaSetDevice(int) { return 0; }
SEEN int cudaGetDevice(int* device) { *device = 0; return 0; }
SEEN int cudaGetDeviceCount(int* count) { *count = 1; return 0; }
SEEN int cudaEventCreateWithFlags(void** event, unsigned) { *event = reinterpret_cast<void*>(16); return 0; }
SEEN int cudaEventRecord(void*, void*) { return 0; }
SEEN int cudaEventRecordWithFlags(void*, void*, unsigned) { return 0; }
SEEN int cudaEventDestroy(void*) { return 0; }
SEEN int cudaStreamWaitEvent(void*, void*, unsigned) { return 0; }
SEEN int cudaStreamIsCapturing(void*, int* status) { *status = 0; return 0; }

}  // extern "C"
