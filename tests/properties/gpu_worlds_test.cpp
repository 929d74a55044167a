// Random worlds and merges on a device, byte for byte as on the processor: every family, layouts
// with TP, EP, ETP, PP and VPP, element types and inputs drawn from one seed.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/cuda/cuda.hpp"
#include "core/cuda/staged_executor.hpp"
#include "core/merge/merge_product.hpp"
#include "properties/attacks/fuzz/fuzz.hpp"
#include "properties/attacks/mutants/gate.hpp"
#include "tests/core/cuda/host_device.hpp"
#include "tests/core/cuda/random_merge.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/files.hpp"

namespace bv::fuzz {
namespace {

namespace fs = std::filesystem;
using generators::Random;
using Files = std::map<std::string, std::string>;

/// BV_GPU_SEED: draws other worlds; BV_GPU_WORLDS: so many of them.
std::uint64_t setting(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

const Tools& gpu_tools() {
  static const Tools value = {
      mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  return value;
}

/// A device whose targets hold other bytes first, which counts what it made.
class Poisoned : public move::Executor {
 public:
  explicit Poisoned(move::Executor& device) : device_(device) {}
  Status run(std::span<const move::MoveTask> tasks) override {
    for (const move::MoveTask& task : tasks) {
      const std::int64_t elements = task.end - task.begin;
      std::int64_t covered = 0;
      for (const layout::BoxPiece& piece : task.pieces) {
        covered += piece.elements();
      }
      if (covered == elements) {  // else the target holds what stays
        std::fill_n(task.target, elements * bytes(task.dtype), std::byte{0xA5});
      }
      made += elements;
      count_tiles(task);
    }
    BV_CHECK(device_.run(tasks));
    if (flips && tasks.front().end > tasks.front().begin) {
      tasks.front().target[0] ^= std::byte{1};
      flips = false;
    }
    return Done{};
  }
  std::int64_t made = 0;   // elements
  std::int64_t tiles = 0;  // of transposes
  bool flips = false;      // the planted fault: one bit, once

 private:
  void count_tiles(const move::MoveTask& task) {
    const auto staged = cuda::reads_of(task.pieces, task.sources.size());
    moves_.clear();
    cuda::moves_of(task, staged, task.target, moves_);  // addresses are not looked at
    tiles += moves_.tiles;
  }

  cuda::MoveList moves_;
  move::Executor& device_;
};

/// One random world as files, and how it is to be converted.
struct Drawn {
  World world;
  checkpoint::HfModel model;
  convert::ConvertOptions options;
  std::string text;
};

/// Bits of every kind, or numbers near zero and one.
support::EditedTensor random_tensor(const TensorSpec& spec, mutants::Tensor numbers, bool noise,
                                    Random& random) {
  support::EditedTensor out{spec.dtype, spec.shape, std::move(numbers.bytes)};
  if (noise) {
    for (std::byte& one : out.bytes) {
      one = static_cast<std::byte>(random.next() >> 56U);
    }
  }
  return out;
}

Result<Drawn> draw_world(std::uint64_t seed, const fs::path& folder) {
  BV_TRY(prepared, prepare(gpu_tools(), draw_from(seed)));
  Random random(seed ^ 0xB17E5ULL);
  constexpr std::array kStored = {DType::BF16, DType::F16, DType::F32};
  const DType stored = kStored[random.below(kStored.size())];
  Headers headers = prepared.model->headers;
  for (auto& [name, spec] : headers) {
    spec.dtype = spec.dtype == DType::BF16 ? stored : spec.dtype;
  }
  const bool noise = random.below(2) == 0;
  support::EditedCheckpoint files;
  files.config = nlohmann::ordered_json::parse(prepared.model->sample.config);
  auto weights = mutants::random_weights(headers, 0.5, random.next());
  for (const auto& [name, spec] : headers) {
    files.tensors[name] = random_tensor(spec, std::move(weights.at(name)), noise, random);
  }
  files.write(folder);
  checkpoint::OpenOptions how;
  how.resolve = prepared.model->resolve;
  BV_TRY(model, checkpoint::open_hf(folder, {prepared.model->family}, how));
  Drawn out{prepared.world, std::move(model), {}, {}};
  constexpr std::array kPolicies = {"preserve", "preserve", "float32", "bfloat16", "float16"};
  const std::string policy = kPolicies[random.below(kPolicies.size())];
  out.options.dtype = plan::dtype_policy(policy).value();
  constexpr std::array<std::int64_t, 3> kWindows = {777, 4096, std::int64_t{64} << 20};
  const std::int64_t window = kWindows[random.below(kWindows.size())];
  out.options.windows = {window, window, window};
  out.options.verify = false;  // every file is read below
  out.text = to_text(prepared.world) + "seed " + std::to_string(seed) + ", stored as " +
             std::string(name(stored)) + ", params " + policy + (noise ? ", noise" : ", numbers") +
             ", windows of " + std::to_string(window);
  return out;
}

/// What an end of a conversion is: each file, or the error.
Files said(const Error& error) {
  return {{"error", label(error.code) + " " + error.message + " " + error.found}};
}

Files read_all(const fs::path& folder, const std::string& prefix) {
  Files out;
  for (const std::string& name : support::files_below(folder)) {
    out[prefix + name] = support::file_text(folder / name);
  }
  return out;
}

/// There, and back from what was written there, with this executor both times.
Files there_and_back(const Drawn& drawn, move::Executor* device, const fs::path& folder) {
  const kinds::Catalogue& kinds = gpu_tools().library.kinds;
  convert::ConvertOptions options = drawn.options;
  options.device = device;
  const auto there =
      convert::to_megatron(drawn.model, kinds, drawn.world.layout, folder / "m", options);
  if (!there) {
    return said(there.error());
  }
  Files out = read_all(folder / "m", "m/");
  const auto shards = checkpoint::open_megatron(folder / "m", {drawn.model.model.family}, kinds);
  const auto back = shards ? convert::to_hf(*shards, kinds, folder / "h", options)
                           : Result<convert::ConvertReport>(shards.error());
  if (!back) {
    out.merge(said(back.error()));
  } else if (!fs::exists(folder / "h")) {  // copies that differ, or names that are wrong
    out["error"] = std::to_string(back->faults.size()) + " faults and " +
                   std::to_string(back->replicas.size()) + " copies that differ";
  } else {
    out.merge(read_all(folder / "h", "h/"));
  }
  return out;
}

/// The first file that is not the same; "" without one.
std::string difference(const Files& wanted, const Files& found) {
  for (const auto& [name, text] : wanted) {
    const auto other = found.find(name);
    if (other == found.end()) {
      return name + " is not made (" + (found.contains("error") ? found.at("error") : "") + ")";
    }
    if (other->second != text) {
      const auto at =
          std::mismatch(text.begin(), text.end(), other->second.begin(), other->second.end());
      return name + " differs at byte " + std::to_string(at.first - text.begin()) +
             (name == "error" ? ": " + other->second : "");
    }
  }
  return found.size() == wanted.size() ? "" : "more files are made";
}

/// How many worlds there are of each kind.
struct Seen {
  int cut = 0, stages = 0, chunks = 0, experts = 0, whole = 0, faults = 0;
  std::set<std::string> samples;
  std::int64_t made = 0, tiles = 0;
};

void expect_world_of_the_processor(std::uint64_t seed, move::Executor& device, Seen& seen) {
  const support::TempFolder temp;
  const auto drawn = draw_world(seed, temp.path() / "in");
  ASSERT_TRUE(drawn) << "seed " << seed << ": " << drawn.error().message << " "
                     << drawn.error().found;
  ASSERT_TRUE(drawn->model.model.faults.empty()) << drawn->text;
  Poisoned poisoned(device);
  const Files wanted = there_and_back(*drawn, nullptr, temp.path() / "cpu");
  const Files found = there_and_back(*drawn, &poisoned, temp.path() / "gpu");
  EXPECT_EQ(difference(wanted, found), "") << drawn->text;
  const parallel::Layout& layout = drawn->world.layout;
  seen.cut += layout.tp > 1 ? 1 : 0;
  seen.stages += layout.pp > 1 ? 1 : 0;
  seen.chunks += layout.vpp > 1 || layout.pipeline_layout.find("||") != std::string::npos ? 1 : 0;
  seen.experts += layout.ep > 1 || layout.etp > 1 ? 1 : 0;
  seen.whole += wanted.contains("error") ? 0 : 1;
  seen.samples.insert(drawn->world.sample);
  seen.made += poisoned.made;
  seen.tiles += layout.tp > 1 || layout.etp > 1 ? poisoned.tiles : 0;
  if (poisoned.made > 0) {  // the same with one wrong bit
    Poisoned wrong(device);
    wrong.flips = true;
    seen.faults +=
        difference(wanted, there_and_back(*drawn, &wrong, temp.path() / "wrong")).empty() ? 0 : 1;
    EXPECT_FALSE(wrong.flips) << drawn->text;
  }
}

/// Has it a tensor whose axes change places?
bool turns(std::uint64_t seed) {
  const auto prepared = prepare(gpu_tools(), draw_from(seed));
  return prepared && std::any_of(prepared->model->model.mappings.begin(),
                                 prepared->model->model.mappings.end(), [](const auto& one) {
                                   const std::string& kind = one.rule->kind;
                                   return kind.find("transposed") != std::string::npos ||
                                          kind.find("in_out") != std::string::npos ||
                                          kind == "gpt_oss_fc1";
                                 });
}

/// So many, and more until tensors that are cut were turned in tiles: few families have them.
Seen expect_worlds_of_the_processor(move::Executor& device, std::uint64_t seed,
                                    std::uint64_t worlds) {
  constexpr std::uint64_t kMoreMax = 2000;
  Seen seen;
  for (std::uint64_t i = 0; i < worlds && !::testing::Test::HasFatalFailure(); ++i) {
    expect_world_of_the_processor(seed + i, device, seen);
  }
  for (std::uint64_t i = worlds; seen.tiles == 0 && i < worlds + kMoreMax; ++i) {
    if (turns(seed + i)) {
      expect_world_of_the_processor(seed + i, device, seen);
    }
  }
  EXPECT_GT(seen.tiles, 0);
  return seen;
}

/// A random merge on a device; the result is to be that of the processor.
void expect_merge_of_the_processor(Random& random, cuda::Device& device) {
  constexpr std::array kDtypes = {DType::F32, DType::BF16, DType::F16};
  const std::int64_t rows = random.between(1, 200);
  const std::int64_t columns = random.between(1, 200);
  const std::int64_t rank = random.between(1, 70);
  const DType factors = kDtypes[random.below(kDtypes.size())];
  const DType dtype = kDtypes[random.below(kDtypes.size())];
  const float scale = static_cast<float>(random.between(-40, 40)) / 16;
  const auto weights = mutants::random_weights({{"left", {"left", factors, {rows, rank}}},
                                                {"right", {"right", factors, {rank, columns}}},
                                                {"base", {"base", dtype, {rows, columns}}}},
                                               0.5, random.next());
  const auto& left = weights.at("left").bytes;
  const auto& right = weights.at("right").bytes;
  const auto& base = weights.at("base").bytes;
  std::vector<std::byte> wanted(base.size(), std::byte{0x5A});
  std::vector<std::byte> found(base.size(), std::byte{0xA5});
  const std::int64_t step = columns * bytes(dtype);
  const lora::MergeProduct product({left.data(), factors, rows, rank, rank, 1},
                                   {right.data(), factors, rank, columns, columns, 1}, scale);
  ASSERT_FALSE(product.add_to(lora::best_merge_isa(), dtype,
                              {0, rows, base.data(), wanted.data(), step, step}));
  const auto aligned = [](std::size_t at) { return (at + 15) / 16 * 16; };
  const std::size_t at_right = aligned(left.size());
  const std::size_t at_base = at_right + aligned(right.size());
  const std::size_t at_out = at_base + aligned(base.size());
  ASSERT_TRUE(device.reserve(0, at_out + base.size()));
  std::byte* const memory = device.memory(0);
  ASSERT_TRUE(device.upload(0, 0, left));
  ASSERT_TRUE(device.upload(0, at_right, right));
  ASSERT_TRUE(device.upload(0, at_base, base));
  ASSERT_TRUE(device.upload(0, at_out, found));  // poison
  ASSERT_TRUE(device.merge(0, {memory, memory + at_right, memory + at_base, memory + at_out, rows,
                               columns, rank, factors, dtype, scale}));
  ASSERT_TRUE(device.download(0, at_out, found));
  ASSERT_TRUE(device.wait(0));
  EXPECT_TRUE(wanted == found) << rows << " x " << columns << " rank " << rank << " of "
                               << name(factors) << " into " << name(dtype) << " by " << scale;
}

void expect_merges_of_the_processor(cuda::Device& device, std::uint64_t seed,
                                    std::uint64_t merges) {
  Random random(seed);
  for (std::uint64_t i = 0; i < merges; ++i) {
    expect_merge_of_the_processor(random, device);
  }
}

/// As `lora merge` adds them: rows apart, in place, in parts of a lane.
void expect_products_of_the_processor(move::Merger& device, std::uint64_t seed,
                                      std::uint64_t merges) {
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i < merges; ++i) {
    cuda::testing::expect_merge_of_the_processor(device, cuda::testing::random_merge(random),
                                                 "merge " + std::to_string(i));
  }
}

constexpr std::uint64_t kSeed = 14;
constexpr std::size_t kLane = std::size_t{8} << 20;
constexpr std::size_t kSmallLane = std::size_t{24} << 10;

/// The GPU of this machine.
class GpuWorlds : public ::testing::Test {
 protected:
  void SetUp() override {
    auto device = cuda::open_device(0);
    if (!device) {
      GTEST_SKIP() << "NOT RUN ON A GPU: " << device.error().found;
    }
    device_ = std::move(*device);
    std::cout << "BV_GPU_SEED=" << seed_ << " BV_GPU_WORLDS=" << worlds_ << "\n";
  }
  std::unique_ptr<cuda::Device> device_;
  std::uint64_t seed_ = setting("BV_GPU_SEED", kSeed);
  std::uint64_t worlds_ = setting("BV_GPU_WORLDS", 60);
};

TEST_F(GpuWorlds, AreConvertedThereAndBackAsByTheProcessor) {
  cuda::StagedExecutor executor(std::move(device_), kLane);
  const Seen seen = expect_worlds_of_the_processor(executor, seed_, worlds_);
  EXPECT_TRUE(executor.notes().empty()) << executor.notes().front();
  EXPECT_GT(seen.made, 0);
  EXPECT_GT(seen.faults, 0);
  if (worlds_ >= 12) {  // of fewer some have none
    EXPECT_GT(seen.cut, 0);
    EXPECT_GT(seen.stages, 0);
    EXPECT_GT(seen.chunks, 0);
    EXPECT_GT(seen.experts, 0);
    EXPECT_GT(static_cast<std::uint64_t>(seen.whole), worlds_ / 2);
    EXPECT_GT(seen.samples.size(), 5U);
  }
}

TEST_F(GpuWorlds, AreMergedAsByTheProcessor) {
  expect_merges_of_the_processor(*device_, seed_, worlds_);
  cuda::StagedExecutor executor(std::move(device_), kSmallLane);
  expect_products_of_the_processor(executor, seed_, 2 * worlds_);
}

/// Without a GPU as well: what a kernel's thread does, one after the other.
TEST(GpuWorldsOnTheHost, AreConvertedAndMergedAsByTheProcessor) {
  cuda::StagedExecutor executor(std::make_unique<cuda::testing::HostDevice>(), kLane);
  const Seen seen = expect_worlds_of_the_processor(executor, kSeed + 1000, 12);
  EXPECT_TRUE(executor.notes().empty());
  EXPECT_GT(seen.made, 0);
  EXPECT_GT(seen.faults, 0);
  cuda::testing::HostDevice device;
  expect_merges_of_the_processor(device, kSeed, 12);
  cuda::StagedExecutor small(std::make_unique<cuda::testing::HostDevice>(), kSmallLane);
  expect_products_of_the_processor(small, kSeed, 24);
}

}  // namespace
}  // namespace bv::fuzz
