#include "core/registry/policy.h"
#include "core/registry/presets.h"
#include <string.h>
void policy_init(struct policy *policy){memset(policy,0,sizeof*policy);policy->about=policy->tried="";}
static const char *keep(struct policy*p,const char*s,size_t n){char*o=p->text+p->text_used;memcpy(o,s,n);o[n]=0;p->text_used+=n+1;return o;}
uint32_t policy_read(struct policy *p, const struct policy_source *s, void (*e)(void*,const char*), void *c)
{
	(void)e,(void)c;
	const char*t=s->text,*end=t+s->bytes;char section[64]="";uint32_t region=0;
	while(t<end){const char*nl=memchr(t,'\n',(size_t)(end-t));if(!nl)nl=end;
		if(*t=='['){size_t n=(size_t)(nl-t)-2;memcpy(section,t+1,n);section[n]=0;
			if(!strncmp(section,"region ",7)){if(!p->region_count)p->region_count=1;region=p->region_count++;p->region[region].name=keep(p,section+7,strlen(section+7));}
			if(!strcmp(section,"automatic"))p->automatic_given=true;}
		else{const char*eq=memchr(t,'=',(size_t)(nl-t));if(eq){char key[64];size_t n=(size_t)(eq-t);while(n&&t[n-1]==' ')n--;memcpy(key,t,n);key[n]=0;const char*v=eq+1;while(*v==' ')v++;const char*val=keep(p,v,(size_t)(nl-v));
			static const struct{const char*k;enum policy_marker_kind m;}ks[]={{"frame",POLICY_FRAME},{"frame-scope",POLICY_FRAME_SCOPE},{"await",POLICY_AWAIT},{"transfer",POLICY_TRANSFER},{"scope",POLICY_REGION},{"present",POLICY_PRESENT},{"wait",POLICY_WAIT},{"sleep",POLICY_SLEEP}};
			for(size_t i=0;i<8;i++)if(!strcmp(ks[i].k,key))p->marker[p->marker_count++]=(struct policy_marker){.kind=ks[i].m,.function=val,.region=region,.optional=s->preset};}}
		t=nl+1;}
	return 0;
}
uint32_t policy_region_named(const struct policy *p,const char*n){for(uint32_t i=1;i<p->region_count;i++)if(!strcmp(p->region[i].name,n))return i;return 0;}
static const char text[]="[automatic]\npresent=SDL_GL_SwapWindow\npresent=SDL_RenderPresent\npresent=SDL_UpdateWindowSurface\npresent=SDL_Flip\npresent=glfwSwapBuffers\npresent=al_flip_display\npresent=glXSwapBuffers\npresent=eglSwapBuffers\npresent=vkQueuePresentKHR\npresent=XShmPutImage\nwait=uv_run\nwait=epoll_wait\nwait=epoll_pwait\nwait=epoll_pwait2\nwait=poll\nwait=ppoll\nwait=select\nwait=pselect\nsleep=nanosleep\nsleep=clock_nanosleep\nsleep=usleep\nsleep=sleep\n";
const struct preset presets[]={{"automatic",text,sizeof text-1}};
const size_t preset_count=1;
const struct preset *preset_find(const char *name){return strcmp(name,"automatic")?NULL:&presets[0];}
