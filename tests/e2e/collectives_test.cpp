// --collectives nccl: an honest error where there is no GPU, and the same verdicts where NCCL and
// the driver are there (a library of the tests plays both).

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

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

}  // namespace
}  // namespace bv::e2e
