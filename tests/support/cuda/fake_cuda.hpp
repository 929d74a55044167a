#pragma once
// What tests choose of the stand-in for the CUDA runtime, and what they ask it afterwards. In a
// command it is chosen by FAKE_CUDA: "devices=2 memory=1000000 fail=17 code=700 stays when=late".

#include <cstddef>
#include <string>
#include <vector>

namespace bv::fake_cuda {

/// When the work of a stream is done: as early or as late as CUDA allows, or at a random moment.
enum class When { Early, Late, Random };

struct Choice {
  int devices = 1;
  std::size_t memory_bytes = std::size_t{4} << 30;  // of each device
  long failing_call = 0;                            // counted from 1; 0: none fails
  int failing_code = 719;                           // cudaErrorLaunchFailure
  bool stays = false;  // every later call fails as well, as after an illegal address
  When when = When::Late;
  unsigned seed = 1;  // of the order of blocks and threads
};

/// Forgets the count of calls and what was seen; devices keep their memory.
void choose(const Choice& choice);

struct Seen {
  std::vector<std::string> calls;  // names of all calls that can fail
  long kernels = 0;
  long pageable_copies = 0;  // asynchronous ones whose host side is not pinned
  long overlapped = 0;       // copies to a device while another stream had work
};
[[nodiscard]] const Seen& seen();

/// What is not given back: "" when nothing is left.
[[nodiscard]] std::string leaks();

}  // namespace bv::fake_cuda
