// --collectives nccl: an honest error where there is no GPU, and the same verdicts where NCCL and
// the driver are there (a library of the tests plays both).

#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<std::string> kLine = {"check", "--model", "fixture:llama", "--level", "data",
                                        "--tp",  "2"};

std::vector<std::string> by_nccl() {
  std::vector<std::string> out = kLine;
  out.insert(out.end(), {"--collectives", "nccl"});
  return out;
}

/// Finds nothing, or the library of the tests under both names.
Variables libraries(const TempFolder& folder, bool there) {
  if (there) {
    for (const char* name : {"libnccl.so.2", "libcuda.so.1"}) {
      fs::create_symlink(BV_FAKE_NCCL, folder / name);
    }
  }
  return {{"LD_LIBRARY_PATH", folder.path().string()}};
}

TEST(Collectives, ByNcclAreAnErrorThatSaysWhatIsNotHere) {
  const TempFolder folder;
  const Ended ended = run(by_nccl(), libraries(folder, false));
  if (ended.code == 0) {
    GTEST_SKIP() << "this machine has NCCL and a GPU";
  }
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.err.find("BV8003"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("--collectives nccl: "), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("= help"), std::string::npos) << ended.err;
}

TEST(Collectives, ByNcclInAWorldOfOneGiveTheSameVerdicts) {
  const TempFolder folder;
  const Ended plain = run(kLine);
  const Ended carried = run(by_nccl(), libraries(folder, true));
  EXPECT_EQ(carried.code, 0) << carried.all();
  EXPECT_EQ(carried.code, plain.code) << plain.all();
}

/// The variables of torchrun, and the library of the tests as NCCL and driver.
Named carried(const TempFolder& folder) {
  return [at = libraries(folder, true)](int rank, int size, int port) {
    Variables out = torchrun(rank, size, port);
    out.insert(at.begin(), at.end());
    return out;
  };
}

TEST(Collectives, ByNcclGiveTheVerdictsOfOneProcessInWorldsOfMany) {
  const TempFolder folder;
  const Named variables = carried(folder);
  const std::vector<std::string> line = {"check",
                                         "--model",
                                         golden_hf("qwen3_moe").string(),
                                         "--level",
                                         "data",
                                         "--tp",
                                         "2",
                                         "--out",
                                         folder / "out",
                                         "--collectives",
                                         "nccl"};
  const auto verdicts = [&] {
    auto out = nlohmann::ordered_json::parse(file_text(folder / "out/verdicts.json"));
    out.erase("run");
    fs::remove_all(folder / "out");
    return out.dump(1);
  };
  const Variables alone = {{"LD_LIBRARY_PATH", folder.path().string()}};
  ASSERT_EQ(run(line, alone).code, 0);
  const std::string wanted = verdicts();
  for (const int size : {2, 4, 8}) {
    for (const Ended& end : run_world(size, line, {}, variables)) {
      EXPECT_EQ(end.code, 0) << end.all();
    }
    EXPECT_EQ(verdicts(), wanted) << size;
  }
}

TEST(Collectives, ByNcclWriteTheFolderOfOneProcess) {
  const TempFolder folder;
  const Named variables = carried(folder);
  const auto line = [&](const std::string& out) {
    return std::vector<std::string>{
        "convert", "--to", "megatron", "--model",   golden_hf("qwen3_moe").string(), "--tp", "2",
        "--pp",    "2",    "--out",    folder / out};
  };
  ASSERT_EQ(run(line("alone")).code, 0);
  for (const int size : {2, 4}) {
    const std::string out = "out" + std::to_string(size);
    auto words = line(out);
    words.insert(words.end(), {"--collectives", "nccl"});
    for (const Ended& end : run_world(size, words, {}, variables)) {
      EXPECT_EQ(end.code, 0) << end.all();
    }
    EXPECT_TRUE(contents(folder / out) == contents(folder / "alone")) << size;
  }
}

TEST(Collectives, ByNcclWithAProcessThatIsKilledOrStoppedEndInTimeAndNameIt) {
  const TempFolder folder;
  const Named variables = carried(folder);
  std::vector<std::string> line = by_nccl();
  line.insert(line.end(), {"--patience", "2"});
  int missed = 0;
  for (const int signal : {SIGKILL, SIGSTOP}) {
    for (const int after : {5, 20, 45, 80}) {
      const auto at = std::chrono::steady_clock::now() + std::chrono::milliseconds(after);
      const auto watch = [=, sent = false, ended = false](pid_t process) mutable {
        const auto now = std::chrono::steady_clock::now();
        if (!sent && now >= at) {
          sent = true;
          ::kill(process, signal);
        }
        if (!ended && now >= at + std::chrono::seconds(20)) {
          ended = true;
          ::kill(process, SIGKILL);  // what was stopped
        }
      };
      const auto ends = run_world(3, line, {{1, {watch, {}}}}, variables);
      for (const int rank : {0, 2}) {
        const Ended& end = ends[static_cast<std::size_t>(rank)];
        EXPECT_TRUE(end.code == 0 || end.code == 5) << signal << " " << after << end.all();
        if (rank == 0 && end.code == 5) {
          ++missed;
          EXPECT_THAT(end.flat(), HasSubstr("rank 1")) << signal << " " << after;
        }
      }
    }
  }
  EXPECT_GT(missed, 2);
}

/// A library that fails says why, in every process the same code, and once.
TEST(Collectives, ByNcclThatFailEndAllWithOneMessage) {
  const TempFolder folder;
  const Named carried_there = carried(folder);
  for (const char* fault : {"old", "no-device", "identity", "init", "async"}) {
    const Named variables = [&](int rank, int size, int port) {
      Variables out = carried_there(rank, size, port);
      out["FAKE_NCCL"] = fault;
      return out;
    };
    auto line = by_nccl();
    line.insert(line.end(), {"--patience", "20"});
    const auto ends = run_world(3, line, {}, variables);
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 5) << fault << end.all();
    }
    EXPECT_THAT(ends[0].all(), HasSubstr("error[BV80")) << fault;
    EXPECT_EQ(ends[1].all() + ends[2].all(), "") << fault;
  }
}

}  // namespace
}  // namespace bv::e2e
