// Peak memory does not grow with the model: what writes, judges and reads a checkpoint streams.

#include <fmt/format.h>

#include "tests/e2e/large_adapter.hpp"

namespace bv::e2e {
namespace {
namespace fs = std::filesystem;

/// Peaks of the commands on a model of one size.
struct Peaks {
  std::uint64_t model = 0;  // bytes of its weights
  std::map<std::string, std::uint64_t> of;
};

/// Runs a command and notes its peak; `look` is called meanwhile.
void measure(
    Peaks& peaks, const std::string& what, std::vector<std::string> line,
    const std::function<void()>& look = [] {}) {
  line.insert(line.end(), {"-j", "2"});
  std::uint64_t& peak = peaks.of[what];
  // The last look counts: before it is another program, the process is a copy of this one.
  const Ended ended = run(line, {}, [&](pid_t child) {
    const std::uint64_t now = resident_peak(child);
    peak = now > 0 ? now : peak;
    look();
  });
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_GT(peak, 0U);
}

/// The model's folder is `folder`/hf.
Peaks write_model(const TempFolder& folder, std::int64_t hidden, std::int64_t layers) {
  const EditedCheckpoint model = large_llama(hidden, layers);
  Peaks out;
  for (const auto& [name, tensor] : model.tensors) {
    out.model += tensor.bytes.size();
  }
  model.write(folder.path() / "hf");
  return out;
}

Peaks peaks_of(std::int64_t hidden, std::int64_t layers) {
  const TempFolder folder;
  Peaks out = write_model(folder, hidden, layers);
  const std::string hf = folder / "hf";
  const std::string dist = folder / "dist";
  measure(out, "write", {"convert", "--to", "torch_dist", "--model", hf, "--out", dist});
  measure(out, "judge", {"check", "--model", hf, "--megatron", dist});
  measure(out, "judge structure", {"check", "--model", hf, "--megatron", dist, "--accept-changed"});
  measure(out, "read back",
          {"convert", "--to", "hf", "--model", dist, "--like", hf, "--out", folder / "back"});
  return out;
}

/// The ways of a file a rank. Each layer has norms that every rank holds.
Peaks peaks_of_ranks(std::int64_t hidden, std::int64_t layers) {
  const TempFolder folder;
  Peaks out = write_model(folder, hidden, layers);
  const std::string hf = folder / "hf";
  const std::string ranks = folder / "ranks";
  measure(out, "round trip", {"roundtrip", "--model", hf, "--tp", "4"});
  measure(out, "write ranks",
          {"convert", "--to", "megatron", "--tp", "4", "--model", hf, "--out", ranks});
  measure(out, "judge ranks", {"diff", hf, ranks});
  measure(out, "ranks back", {"convert", "--to", "hf", "--model", ranks, "--out", folder / "back"});
  return out;
}

/// Merged while they are converted: nothing else stands on the disk meanwhile.
Peaks peaks_of_merging(std::int64_t hidden, std::int64_t layers) {
  const TempFolder folder;
  Peaks out = write_model(folder, hidden, layers);
  write_adapter(folder.path() / "adapter", hidden, layers);
  const auto alone = [&] {
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename().string();
      const bool probe = name.starts_with(".bv-probe-");  // whether a folder can be made here
      EXPECT_TRUE(probe || name == "hf" || name == "adapter" || name.starts_with("dist") ||
                  name.starts_with("ranks"))
          << name;
    }
  };
  const std::vector<std::string> sources = {"--model", folder / "hf", "--adapter",
                                            folder / "adapter"};
  std::vector<std::string> line = {"convert", "--to", "torch_dist", "--out", folder / "dist"};
  line.insert(line.end(), sources.begin(), sources.end());
  measure(out, "to torch_dist", line, alone);
  line = {"convert", "--to", "megatron", "--tp", "4", "--out", folder / "ranks"};
  line.insert(line.end(), sources.begin(), sources.end());
  measure(out, "to ranks", line, alone);
  // What was written is the merged model: the judge of merges has it in its hands again.
  for (const char* form : {"dist", "ranks"}) {
    if (hidden > 512) {
      continue;  // an oracle in float64 takes its time
    }
    std::vector<std::string> back = {"convert",
                                     "--to",
                                     "hf",
                                     "--model",
                                     folder / form,
                                     "--out",
                                     folder / (std::string(form) + " hf")};
    if (form == std::string("dist")) {
      back.insert(back.end(), {"--like", folder / "hf"});
    }
    EXPECT_EQ(run(back).code, 0);
    std::vector<std::string> judge = {"lora", "check", "--merged",
                                      folder / (std::string(form) + " hf")};
    judge.insert(judge.end(), sources.begin(), sources.end());
    const Ended judged = run(judge);
    EXPECT_EQ(judged.code, 0) << judged.all();
  }
  return out;
}

void expect_no_growth(const Peaks& small, const Peaks& large) {
  for (const auto& [what, peak] : large.of) {
    EXPECT_LT(peak, small.of.at(what) + (std::uint64_t{64} << 20)) << what;  // of 170 more
    std::printf("%-16s model %5zu MiB, peak %5zu MiB; model %5zu MiB, peak %5zu MiB\n",
                what.c_str(), static_cast<std::size_t>(small.model >> 20U),
                static_cast<std::size_t>(small.of.at(what) >> 20U),
                static_cast<std::size_t>(large.model >> 20U),
                static_cast<std::size_t>(peak >> 20U));
  }
}

TEST(PeakMemory, OfATorchDistCheckpointDoesNotGrowWithTheModel) {
#ifdef BV_SANITIZED
  GTEST_SKIP() << "a sanitizer keeps what was freed";
#endif
  const Peaks small = peaks_of(512, 4);
  const Peaks middle = peaks_of(1536, 1);
  const Peaks large = peaks_of(2048, 2);  // tensors of 50 MB, larger than what may grow
  ASSERT_GT(large.model, small.model + (std::uint64_t{96} << 20));
  expect_no_growth(small, middle);
  expect_no_growth(small, large);
}

TEST(PeakMemory, OfAFileARankDoesNotGrowWithTheModel) {
#ifdef BV_SANITIZED
  GTEST_SKIP() << "a sanitizer keeps what was freed";
#endif
  const Peaks small = peaks_of_ranks(512, 4);
  expect_no_growth(small, peaks_of_ranks(2048, 2));
  expect_no_growth(small, peaks_of_ranks(512, 64));  // many small tensors
}

TEST(PeakMemory, OfAMergeWhileConvertingDoesNotGrowWithTheModel) {
#ifdef BV_SANITIZED
  GTEST_SKIP() << "a sanitizer keeps what was freed";
#endif
  const Peaks small = peaks_of_merging(512, 4);
  const Peaks large = peaks_of_merging(2048, 2);
  ASSERT_GT(large.model, small.model + (std::uint64_t{96} << 20));
  expect_no_growth(small, large);
}

}  // namespace
}  // namespace bv::e2e
