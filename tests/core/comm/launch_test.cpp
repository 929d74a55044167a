// The world as torchrun, srun and mpirun say it.

#include <gtest/gtest.h>

#include <map>

#include "core/comm/launch.hpp"

namespace bv::comm {
namespace {

using Variables = std::map<std::string, std::string, std::less<>>;

Result<std::optional<Launch>> launched(const Variables& variables) {
  return launch_from([&](std::string_view name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

std::string text(const Launch& one) {
  return std::to_string(one.rank) + "/" + std::to_string(one.size) + " " + one.address + ":" +
         std::to_string(one.port) + (one.port_is_taken ? "+" : "") + " " + one.run;
}

TEST(Launch, IsNoneWithoutALauncherAndForOneProcess) {
  EXPECT_FALSE(launched({}).value());
  EXPECT_FALSE(launched({{"WORLD_SIZE", "1"}, {"RANK", "0"}}).value());
  EXPECT_FALSE(launched({{"RANK", "0"}}).value());
}

TEST(Launch, OfTorchrun) {
  Variables torchrun = {{"WORLD_SIZE", "8"},         {"RANK", "3"},
                        {"MASTER_ADDR", "node1"},    {"MASTER_PORT", "29400"},
                        {"SLURM_NTASKS", "2"},       {"SLURM_PROCID", "1"},
                        {"SLURM_STEP_NODELIST", "a"}};
  EXPECT_EQ(text(*launched(torchrun).value()), "3/8 node1:29400 ");
  torchrun["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  torchrun["TORCHELASTIC_RUN_ID"] = "none";
  EXPECT_EQ(text(*launched(torchrun).value()), "3/8 node1:29400+ none:29400");
}

TEST(Launch, OfSrunIsOnlyThatOfAStep) {
  Variables slurm = {{"SLURM_NTASKS", "4"},
                     {"SLURM_PROCID", "0"},
                     {"SLURM_NODELIST", "gpu[003-004]"},
                     {"SLURM_JOB_ID", "77"}};
  EXPECT_FALSE(launched(slurm).value()) << "a batch script is one process";
  slurm["SLURM_STEP_NODELIST"] = "gpu[003-004]";
  slurm["SLURM_STEP_ID"] = "2";
  const auto launch = launched(slurm).value();
  EXPECT_EQ(launch->address, "gpu003");
  EXPECT_EQ(launch->run, "77.2");
  slurm["SLURM_PROCID"] = "3";
  EXPECT_EQ(launched(slurm).value()->port, launch->port) << "all processes compute one port";
}

TEST(Launch, OfMpirunOnOneHostNeedsNoAddress) {
  Variables open_mpi = {{"OMPI_COMM_WORLD_SIZE", "2"},
                        {"OMPI_COMM_WORLD_RANK", "1"},
                        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  EXPECT_EQ(text(*launched(open_mpi).value()), "1/2 127.0.0.1:29500 ");
  open_mpi["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  const auto two_hosts = launched(open_mpi);
  ASSERT_FALSE(two_hosts);
  EXPECT_EQ(two_hosts.error().code, Code::BadValue);
  EXPECT_EQ(two_hosts.error().message, "2 processes of mpirun, and nobody says where rank 0 is");
  EXPECT_EQ(text(*launched({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"MASTER_ADDR", "h"}}).value()),
            "0/2 h:29500 ");
}

TEST(Launch, RefusesVariablesThatContradictEachOther) {
  for (const Variables& wrong : std::vector<Variables>{
           {{"WORLD_SIZE", "two"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "2"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"MASTER_ADDR", "h"}},
           {{"WORLD_SIZE", "0"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "99999999999999999999"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "-1"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "0"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "70000"}}}) {
    const auto launch = launched(wrong);
    ASSERT_FALSE(launch);
    EXPECT_EQ(launch.error().code, Code::BadValue);
  }
}

TEST(Launch, FirstHostOfAList) {
  EXPECT_EQ(first_host("login"), "login");
  EXPECT_EQ(first_host("a,b[1-2]"), "a");
  EXPECT_EQ(first_host("gpu[003-007,9]"), "gpu003");
  EXPECT_EQ(first_host("r[2,5]n[01-04],x"), "r2n01");
  EXPECT_EQ(first_host("gpu[003-007]-ib,login"), "gpu003-ib");
  EXPECT_EQ(first_host(""), "");
  EXPECT_EQ(first_host("a["), "a");
}

}  // namespace
}  // namespace bv::comm
