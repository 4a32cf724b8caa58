#include <map>
#include <string>
#include <iostream>
int main(){ std::map<int,std::string> m; for(int i=0;i<100000;i++) m[i*7919%5003]+=std::to_string(i); std::cout<<m.size()<<"\n"; }
