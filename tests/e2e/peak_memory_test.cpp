// Peak memory does not grow with the model: what writes, judges and reads a torch_dist checkpoint
// streams.

#include <fmt/format.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

/// Peaks of the commands on a model of one size.
struct Peaks {
  std::uint64_t model = 0;  // bytes of its weights
  std::map<std::string, std::uint64_t> of;
};

Peaks peaks_of(std::int64_t hidden, std::int64_t layers) {
  const TempFolder folder;
  Peaks out;
  const EditedCheckpoint model = large_llama(hidden, layers);
  for (const auto& [name, tensor] : model.tensors) {
    out.model += tensor.bytes.size();
  }
  model.write(folder.path() / "hf");
  const std::string hf = folder / "hf";
  const std::string dist = folder / "dist";
  const auto measure = [&](const std::string& what, std::vector<std::string> line) {
    line.insert(line.end(), {"-j", "2"});
    std::uint64_t& peak = out.of[what];
    // The last look counts: before it is another program, the process is a copy of this one.
    const Ended ended = run(line, {}, [&](pid_t child) {
      const std::uint64_t now = resident_peak(child);
      peak = now > 0 ? now : peak;
    });
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_GT(peak, 0U);
  };
  measure("write", {"convert", "--to", "torch_dist", "--model", hf, "--out", dist});
  measure("judge", {"check", "--model", hf, "--megatron", dist});
  measure("judge structure", {"check", "--model", hf, "--megatron", dist, "--accept-changed"});
  measure("read back",
          {"convert", "--to", "hf", "--model", dist, "--like", hf, "--out", folder / "back"});
  return out;
}

TEST(PeakMemory, OfATorchDistCheckpointDoesNotGrowWithTheModel) {
#ifdef BV_SANITIZED
  GTEST_SKIP() << "a sanitizer keeps what was freed";
#endif
  const Peaks small = peaks_of(512, 4);
  const Peaks large = peaks_of(2048, 2);  // tensors of 50 MB, larger than what may grow
  ASSERT_GT(large.model, small.model + (std::uint64_t{96} << 20));
  for (const auto& [what, peak] : large.of) {
    EXPECT_LT(peak, small.of.at(what) + (std::uint64_t{32} << 20)) << what;
  }
}

}  // namespace
}  // namespace bv::e2e
